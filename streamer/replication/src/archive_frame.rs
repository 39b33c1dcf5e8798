//! The messages inside the COPY of a base backup, as PostgreSQL 15 and later send them.
//! Source: `protocol.sgml`, "BASE_BACKUP"; `basebackup_copy.c`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use bytes::Bytes;
use hardstorage_report::Result;

use crate::message::{Cursor, protocol};

/// One CopyData of a base backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ArchiveFrame {
    /// `n`: an archive begins.
    Archive {
        name: String,
        /// `None` for the data directory itself.
        location: Option<PathBuf>,
    },
    /// `m`: the manifest begins.
    Manifest,
    /// `d`: bytes of what began last.
    Data(Bytes),
    /// `p`: how many bytes the server has sent so far.
    Progress(u64),
}

impl ArchiveFrame {
    pub(crate) fn decode(body: Bytes) -> Result<ArchiveFrame> {
        let mut body = Cursor::new(body);
        let frame = match body.u8()? {
            b'n' => {
                let name = body.zero_terminated()?;
                let name = match std::str::from_utf8(&name) {
                    Ok(name) if !name.is_empty() => name.to_owned(),
                    _ => return Err(protocol(format!("an archive named \"{}\"", name.escape_ascii()))),
                };
                let location = body.zero_terminated()?;
                let location = (!location.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(&location)));
                ArchiveFrame::Archive { name, location }
            }
            b'm' => ArchiveFrame::Manifest,
            b'd' => ArchiveFrame::Data(body.rest()),
            b'p' => {
                let done = body.i64()?;
                let done = u64::try_from(done).map_err(|_| protocol("a negative progress"))?;
                ArchiveFrame::Progress(done)
            }
            other => {
                return Err(protocol(format!(
                    "a backup message of the unknown kind '{}'",
                    other.escape_ascii()
                )));
            }
        };
        if body.is_empty() {
            Ok(frame)
        } else {
            Err(protocol("a backup message that is too long"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(body: &'static [u8]) -> Result<ArchiveFrame> {
        ArchiveFrame::decode(Bytes::from_static(body))
    }

    #[test]
    fn golden_frames() {
        let base = ArchiveFrame::Archive {
            name: "base.tar".to_owned(),
            location: None,
        };
        assert_eq!(decode(b"nbase.tar\0\0").unwrap(), base);
        let space = ArchiveFrame::Archive {
            name: "16384.tar".to_owned(),
            location: Some(PathBuf::from("/srv/fast")),
        };
        assert_eq!(decode(b"n16384.tar\0/srv/fast\0").unwrap(), space);
        assert_eq!(decode(b"m").unwrap(), ArchiveFrame::Manifest);
        assert_eq!(
            decode(b"d\0\x01").unwrap(),
            ArchiveFrame::Data(Bytes::from_static(b"\0\x01"))
        );
        assert_eq!(decode(b"p\0\0\0\0\0\x01\0\0").unwrap(), ArchiveFrame::Progress(65536));
    }

    #[test]
    fn a_location_may_have_any_bytes_but_a_name_may_not() {
        let ArchiveFrame::Archive { location, .. } = decode(b"n1.tar\0/\xff\0").unwrap() else {
            panic!("not an archive");
        };
        assert_eq!(location.unwrap().as_os_str().as_bytes(), b"/\xff");
        for bad in [
            &b"n\xff.tar\0\0"[..],
            b"n\0\0",
            b"nbase.tar\0",
            b"nbase.tar\0\0x",
            b"m1",
            b"p\xff\xff\xff\xff\xff\xff\xff\xff",
            b"p\0",
            b"x",
            b"",
        ] {
            assert!(ArchiveFrame::decode(Bytes::copy_from_slice(bad)).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(body in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = ArchiveFrame::decode(Bytes::from(body));
        }

        #[test]
        fn data_is_passed_on_unchanged(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut body = vec![b'd'];
            body.extend_from_slice(&data);
            prop_assert_eq!(ArchiveFrame::decode(Bytes::from(body)).unwrap(), ArchiveFrame::Data(Bytes::from(data)));
        }
    }
}
