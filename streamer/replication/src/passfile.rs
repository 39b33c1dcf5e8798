//! Password files: `host:port:database:user:password`, one entry a line, the first that matches counts.
//!
//! As libpq reads them: `*` matches anything, a backslash takes the next character as it is, `#` begins a comment. A file
//! that others can read is not used; the caller gets a warning for that, because a login that fails for want of a
//! password does not tell why. A file that is not there is no password and no warning.
//! Source: `libpq.sgml`, "The Password File"; `passwordFromFile` in `fe-connect.c`.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::conninfo::Secret;

/// What an entry must match.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The host's name or directory; `localhost` for the default socket.
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    /// Tried one after the other over the whole file.
    pub(crate) databases: &'a [&'a str],
    pub(crate) user: &'a str,
}

/// What the file gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Lookup {
    pub(crate) password: Option<Secret>,
    /// Why the file was not used although it is there.
    pub(crate) warning: Option<String>,
}

/// More than any password file; keeps a wrong path from filling memory.
const MAX_SIZE: u64 = 1 << 20;

/// Looks an entry up.
pub(crate) fn lookup(path: &Path, wanted: &Wanted<'_>) -> Lookup {
    let refuse = |reason: String| Lookup {
        password: None,
        warning: Some(format!("password file {} is not used: {reason}", path.display())),
    };
    // libpq is silent about a file that it cannot open; only the missing one is no news.
    let text = match read(path) {
        Ok(Some(text)) => text,
        Ok(None) => return Lookup::default(),
        Err(reason) => return refuse(reason),
    };
    Lookup {
        password: wanted
            .databases
            .iter()
            .find_map(|database| find(&text, wanted, database)),
        warning: None,
    }
}

fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
    // A pipe would block an open; a plain file is the only kind that is used.
    let kind = match std::fs::metadata(path) {
        Ok(kind) => kind,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if !kind.is_file() {
        return Err("it is not a plain file".to_owned());
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err("group or world has access to it; permissions must be 0600 or less".to_owned());
    }
    let mut text = Zeroizing::new(Vec::with_capacity(metadata.len().min(MAX_SIZE) as usize));
    file.take(MAX_SIZE)
        .read_to_end(&mut text)
        .map_err(|error| error.to_string())?;
    Ok(Some(text))
}

/// The password of the first line that matches.
fn find(text: &[u8], wanted: &Wanted<'_>, database: &str) -> Option<Secret> {
    let port = wanted.port.to_string();
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.first() == Some(&b'#') {
            return None;
        }
        let rest = [wanted.host, &port, database, wanted.user]
            .into_iter()
            .try_fold(line, |rest, value| match_field(rest, value.as_bytes()))?;
        Some(Secret::new(unescape(rest)))
    })
}

/// What follows the field, when it is `*` or the value.
fn match_field<'a>(line: &'a [u8], value: &[u8]) -> Option<&'a [u8]> {
    if let Some(rest) = line.strip_prefix(b"*:") {
        return Some(rest);
    }
    let mut rest = line;
    let mut value = value.iter();
    loop {
        match rest {
            // As in libpq, a colon ends the field only where the value ends: `::1` need not be escaped.
            [b':', after @ ..] if value.len() == 0 => return Some(after),
            [b'\\', byte, after @ ..] | [byte, after @ ..] => {
                if value.next() != Some(byte) {
                    return None;
                }
                rest = after;
            }
            [] => return None,
        }
    }
}

/// The password field: up to a colon that is not escaped.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut password = Vec::with_capacity(field.len());
    let mut rest = field;
    loop {
        match rest {
            [] | [b':', ..] => return password,
            [b'\\', byte, after @ ..] | [byte, after @ ..] => {
                password.push(*byte);
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &[u8] = b"# host:port:database:user:password\n\
        db1:5432:replication:backup:repl\n\
        db1:5432:postgres:backup:sql\r\n\
        ::1:5432:*:six:v6\n\
        a\\:b:*:*:back\\\\slash:pa\\:ss\\\\word:ignored\n\
        short:line\n\
        *:*:*:any:last";

    fn password(host: &str, port: u16, databases: &[&str], user: &str) -> Option<String> {
        let wanted = Wanted {
            host,
            port,
            databases,
            user,
        };
        let found = databases.iter().find_map(|database| find(FILE, &wanted, database))?;
        Some(String::from_utf8(found.expose().to_vec()).unwrap())
    }

    #[test]
    fn the_first_line_that_matches() {
        for (host, port, databases, user, expected) in [
            (
                "db1",
                5432,
                &["replication", "postgres"] as &[&str],
                "backup",
                Some("repl"),
            ),
            ("db1", 5432, &["postgres"], "backup", Some("sql")),
            ("db1", 5433, &["postgres"], "backup", None),
            ("db", 5432, &["postgres"], "backup", None),
            ("db12", 5432, &["postgres"], "backup", None),
            ("a:b", 1, &["x"], "back\\slash", Some("pa:ss\\word")),
            ("anywhere", 9, &["x"], "any", Some("last")),
            ("::1", 5432, &["x"], "six", Some("v6")),
            ("short", 5432, &["x"], "y", None),
        ] {
            let found = password(host, port, databases, user);
            assert_eq!(found.as_deref(), expected, "{host} {port} {user}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pgpass");
        std::fs::write(&path, "*:*:*:*:secret\n").unwrap();
        let wanted = Wanted {
            host: "h",
            port: 1,
            databases: &["d"],
            user: "u",
        };
        for (mode, used) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let found = lookup(&path, &wanted);
            assert_eq!(found.password.is_some(), used, "{mode:o}");
            assert_eq!(found.warning.is_none(), used, "{mode:o}");
            assert!(!format!("{found:?}").contains("secret"));
        }
        assert!(lookup(directory.path(), &wanted).warning.is_some());
        assert_eq!(lookup(&directory.path().join("missing"), &wanted), Lookup::default());
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = find(&text, &Wanted { host: "h", port: 1, databases: &[], user: "u" }, "d");
        }

        #[test]
        fn what_is_escaped_is_found(host in "[^\n\r\0]{1,8}", user in "[^\n\r\0]{1,8}", password in "[^\n\r\0]{1,12}") {
            let escape = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
            let line = format!("{}:1:d:{}:{}\n", escape(&host), escape(&user), escape(&password));
            // A host `*` or a first character `#` means something else.
            prop_assume!(host != "*" && user != "*" && !host.starts_with('#'));
            let wanted = Wanted { host: &host, port: 1, databases: &[], user: &user };
            prop_assert_eq!(find(line.as_bytes(), &wanted, "d"), Some(Secret::new(password)));
        }
    }
}
