//! Where each tablespace of a backup goes, and what `tablespace_map` says about it.

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

/// The file `tablespace_map` for these places. PostgreSQL makes the links anew from it when recovery starts, so it
/// must say where they are now. Line feeds and backslashes are escaped as `do_pg_backup_start` does.
pub fn tablespace_map(places: &BTreeMap<u32, PathBuf>) -> String {
    let mut text = String::new();
    for (oid, path) in places {
        text.push_str(&format!("{oid} "));
        for c in path.to_string_lossy().chars() {
            if matches!(c, '\n' | '\r' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push('\n');
    }
    text
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

    #[test]
    fn the_map_is_escaped() {
        let places = BTreeMap::from([(7, PathBuf::from("/a\\b")), (9, PathBuf::from("/c"))]);
        assert_eq!(tablespace_map(&places), "7 /a\\\\b\n9 /c\n");
    }
}
