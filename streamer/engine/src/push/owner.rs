//! Which cluster wrote a history or a `.backup` file. Nothing in them tells, and under the wrong cluster a history would
//! stand in the way of the right one for ever. The control file of the data directory above `pg_wal` tells.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use hardstorage_report::{Error, Result, SystemId, code};

/// `PG_CONTROL_VERSION` of PostgreSQL 15 and 16, 17, and 18.
const VERSIONS: [u32; 3] = [1300, 1700, 1800];

/// The cluster whose `pg_wal` a path lies in. Links are not followed upwards: `pg_wal` may be one.
pub(super) fn owner(path: &Path) -> Result<SystemId> {
    let unclear = |what: String| Error::new(code::engine::WAL_OWNER, what);
    let absolute = std::path::absolute(path)
        .map_err(|error| unclear(format!("{} cannot be resolved", path.display())).source(error))?;
    let data = absolute.parent().and_then(Path::parent);
    let data = data.ok_or_else(|| unclear(format!("{} lies in no data directory", path.display())))?;
    let control = data.join("global/pg_control");
    let mut head = [0; 12];
    File::open(&control)
        .and_then(|mut file| file.read_exact(&mut head))
        .map_err(|error| unclear(format!("read {}", control.display())).source(error))?;
    identifier(&head).ok_or_else(|| {
        unclear(format!(
            "{} is not the control file of a PostgreSQL from 15 to 18",
            control.display()
        ))
    })
}

/// The first fields of `ControlFileData`: the system identifier, and the version of the file.
fn identifier(head: &[u8; 12]) -> Option<SystemId> {
    let [id @ .., a, b, c, d] = *head;
    let id = u64::from_le_bytes(id);
    (id != 0 && VERSIONS.contains(&u32::from_le_bytes([a, b, c, d]))).then_some(SystemId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(id: u64, version: u32) -> [u8; 12] {
        let bytes = [&id.to_le_bytes()[..], &version.to_le_bytes()].concat();
        bytes.try_into().unwrap()
    }

    #[test]
    fn only_a_control_file_tells() {
        assert_eq!(identifier(&head(77, 1800)), Some(SystemId(77)));
        assert_eq!(identifier(&head(77, 1201)), None);
        assert_eq!(identifier(&head(0, 1700)), None);
    }

    #[test]
    fn it_is_looked_for_above_the_directory_of_the_file() {
        let place = tempfile::tempdir().unwrap();
        let data = place.path();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), data.join("pg_wal")).unwrap();
        let file = data.join("pg_wal/00000002.history");
        let refused = owner(&file).unwrap_err();
        assert!(refused.is(code::engine::WAL_OWNER), "{refused}");
        std::fs::create_dir(data.join("global")).unwrap();
        std::fs::write(data.join("global/pg_control"), [&head(9, 1700)[..], &[0; 100]].concat()).unwrap();
        assert_eq!(owner(&file).unwrap(), SystemId(9));
        std::fs::write(data.join("global/pg_control"), [7; 5]).unwrap();
        assert!(owner(&file).unwrap_err().is(code::engine::WAL_OWNER));
    }
}
