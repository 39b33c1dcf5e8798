//! What an errno means for a store.

use std::fmt;
use std::path::Path;

use hardstorage_report::{Error, Retry, code};
use rustix::io::Errno;

use crate::Key;

/// What was being done, for the message.
pub(super) struct Doing {
    verb: &'static str,
    object: String,
    root: bool,
}

impl Doing {
    pub(super) fn object(verb: &'static str, key: &Key) -> Doing {
        Doing {
            verb,
            object: key.to_string(),
            root: false,
        }
    }

    pub(super) fn folder(verb: &'static str, name: &str) -> Doing {
        Doing {
            verb,
            object: name.to_owned(),
            root: false,
        }
    }

    pub(super) fn root(verb: &'static str, path: &Path) -> Doing {
        Doing {
            verb,
            object: path.display().to_string(),
            root: true,
        }
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.object)
    }
}

pub(super) fn failed_io(error: &std::io::Error, doing: &Doing) -> Error {
    match Errno::from_io_error(error) {
        Some(errno) => failed(errno, doing),
        None => Error::new(code::storage::IO, format!("{doing}: {error}")).retry(Retry::Now),
    }
}

pub(super) fn failed(errno: Errno, doing: &Doing) -> Error {
    let (code, retry) = match errno {
        Errno::NOSPC | Errno::DQUOT => (code::storage::FULL, Retry::Never),
        Errno::ROFS => (code::storage::READ_ONLY, Retry::Never),
        Errno::ACCESS | Errno::PERM => (code::storage::DENIED, Retry::Never),
        Errno::NOENT | Errno::NOTDIR if doing.root => (code::storage::BUCKET, Retry::Never),
        // A network mount that is away; fsync errors come here too, and a retry writes the file anew.
        Errno::STALE | Errno::TIMEDOUT | Errno::HOSTDOWN | Errno::HOSTUNREACH | Errno::NOTCONN => {
            (code::storage::UNREACHABLE, Retry::Later)
        }
        Errno::IO | Errno::INTR | Errno::AGAIN | Errno::BUSY => (code::storage::IO, Retry::Now),
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => (code::storage::IO, Retry::Later),
        _ => (code::storage::IO, Retry::Never),
    };
    Error::new(code, doing.to_string())
        .retry(retry)
        .source(std::io::Error::from(errno))
}
