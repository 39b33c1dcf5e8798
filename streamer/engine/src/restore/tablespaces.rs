//! Where each tablespace of a backup goes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hardstorage_report::{Error, Result, code};
use hardstorage_repository::Tablespace;

/// Decides the place of every tablespace. A mapping that fits none is an error: it is a typing mistake, and what it
/// should have moved would land on the original place.
pub fn map_tablespaces(
    tablespaces: &[Tablespace],
    mappings: &[(PathBuf, PathBuf)],
    data: &Path,
) -> Result<BTreeMap<u32, PathBuf>> {
    if let Some((old, _)) = mappings
        .iter()
        .find(|(old, _)| tablespaces.iter().all(|space| Path::new(&space.location) != old))
    {
        let known: Vec<&str> = tablespaces.iter().map(|space| space.location.as_str()).collect();
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        return Err(Error::new(
            code::usage::INVALID,
            format!("--tablespace-mapping: no tablespace lies at {}", old.display()),
        )
        .hint(format!("the backup has: {known}")));
    }
    let place = |space: &Tablespace| {
        let location = Path::new(&space.location);
        match mappings.iter().find(|(old, _)| old == location) {
            Some((_, new)) => new.clone(),
            // A tablespace inside the data directory has a relative location.
            None if location.is_relative() => data.join(location),
            None => location.to_owned(),
        }
    };
    Ok(tablespaces.iter().map(|space| (space.oid, place(space))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(oid: u32, location: &str) -> Tablespace {
        Tablespace {
            oid,
            location: location.to_owned(),
            size: 0,
        }
    }

    #[test]
    fn mappings_move_exactly_what_they_name() {
        let spaces = [space(7, "/srv/a"), space(8, "/srv/b"), space(9, "pg_tblspc/9")];
        let mapping = [(PathBuf::from("/srv/a"), PathBuf::from("/new/a"))];
        let places = map_tablespaces(&spaces, &mapping, Path::new("/data")).unwrap();
        assert_eq!(places[&7], Path::new("/new/a"));
        assert_eq!(places[&8], Path::new("/srv/b"));
        assert_eq!(places[&9], Path::new("/data/pg_tblspc/9"));
        let typo = [(PathBuf::from("/srv/c"), PathBuf::from("/new/c"))];
        assert!(map_tablespaces(&spaces, &typo, Path::new("/data")).is_err());
    }
}
