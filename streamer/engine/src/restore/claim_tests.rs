//! Places that two restores want, that a killed one has left, and that belong to somebody else.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
use std::collections::BTreeMap;

use super::*;

fn layout(data: &Path, space: &Path) -> Layout {
    Layout {
        data: data.to_owned(),
        tablespaces: BTreeMap::from([(7, space.to_owned()), (8, data.join("pg_tblspc/8"))]),
        wal: None,
        configuration: None,
        owner: None,
    }
}

fn names(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn one_of_two_gets_a_place_and_the_other_leaves_it_alone() {
    let root = tempfile::tempdir().unwrap();
    let (data, space) = (root.path().join("data"), root.path().join("space"));
    let first = Claim::take(&layout(&data, &space), None, None).unwrap();
    fs::write(data.join("PG_VERSION"), "18").unwrap();
    // Once by the data directory, once by the tablespace alone.
    let other = root.path().join("deep/other");
    for second in [&data, &other] {
        let error = Claim::take(&layout(second, &space), None, None).unwrap_err();
        assert!(error.is(code::engine::TARGET_NOT_EMPTY), "{error}");
    }
    assert!(!other.exists() && root.path().join("deep").exists());
    assert_eq!(names(&data), [MARKER, "PG_VERSION", "pg_tblspc"]);
    first.sync().unwrap();
    first.release().unwrap();
    assert_eq!(names(&data), ["PG_VERSION", "pg_tblspc"]);
    assert_eq!(names(&space), [""; 0]);
    // The place was seen empty before, and is taken and given back since.
    assert!(Claim::take(&layout(&data, &root.path().join("new")), None, None).is_err());
    assert_eq!(names(&data), ["PG_VERSION", "pg_tblspc"]);
}

#[test]
fn a_failed_restore_leaves_a_place_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    let (data, space) = (root.path().join("data"), root.path().join("space"));
    fs::create_dir(&space).unwrap();
    let claim = Claim::take(&layout(&data, &space), None, None).unwrap();
    fs::create_dir(data.join("base")).unwrap();
    fs::write(data.join("base/1"), "x").unwrap();
    fs::write(space.join("2"), "x").unwrap();
    fs::write(data.join("postmaster.pid"), "1").unwrap();
    assert!(claim.undo().is_err(), "a server may run there");
    assert!(data.join("base/1").exists() && space.join("2").exists());
    fs::remove_file(data.join("postmaster.pid")).unwrap();
    claim.undo().unwrap();
    assert!(!data.exists());
    assert_eq!(names(&space), [""; 0]);
}

/// Everything below a directory, to see that nothing of it was touched.
fn content(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for name in names(directory) {
        let path = directory.join(name);
        if path.is_dir() {
            found.extend(content(&path));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found
}

#[test]
fn what_a_killed_process_has_left_is_emptied_by_the_next_of_the_same_restore_alone() {
    let root = tempfile::tempdir().unwrap();
    let (data, space) = (root.path().join("data"), root.path().join("space"));
    let killed = |id: Option<&str>| {
        let claim = Claim::take(&layout(&data, &space), id, None).unwrap();
        fs::create_dir(data.join("base")).unwrap();
        fs::write(data.join("base/1"), "half").unwrap();
        fs::write(space.join("2"), "half").unwrap();
        // Its descriptors are closed, its locks with them; nothing else happens.
        drop(claim);
    };
    killed(Some("run-1"));
    let before = (content(&data), content(&space));
    for other in [None, Some("run-2")] {
        assert!(Claim::take(&layout(&data, &space), other, None).is_err(), "{other:?}");
    }
    assert_eq!((content(&data), content(&space)), before);
    let second = Claim::take(&layout(&data, &space), Some("run-1"), None).unwrap();
    assert!(second.done().is_none());
    assert_eq!(
        (names(&data), names(&space)),
        (vec![MARKER.into(), "pg_tblspc".into()], vec![MARKER.into()])
    );
    // Two of the same restore do not mix either.
    assert!(Claim::take(&layout(&data, &space), Some("run-1"), None).is_err());
    second.release().unwrap();

    // Without a marker, or with one that has no id, it is not ours.
    fs::write(data.join("PG_VERSION"), "18").unwrap();
    assert!(Claim::take(&layout(&data, &space), Some("run-1"), None).is_err());
    assert_eq!(names(&data), ["PG_VERSION", "pg_tblspc"]);
    assert_eq!(names(&space), [""; 0]);
    fs::remove_dir_all(&data).unwrap();
    killed(None);
    let before = (content(&data), content(&space));
    assert!(Claim::take(&layout(&data, &space), Some("run-1"), None).is_err());
    assert_eq!((content(&data), content(&space)), before);
}

#[test]
fn a_place_of_somebody_else_keeps_the_others_from_being_emptied() {
    let root = tempfile::tempdir().unwrap();
    let (data, space) = (root.path().join("data"), root.path().join("space"));
    drop(Claim::take(&layout(&data, &space), Some("run-1"), None).unwrap());
    fs::write(data.join("base"), "half").unwrap();
    fs::remove_file(space.join(MARKER)).unwrap();
    fs::write(space.join("theirs"), "x").unwrap();
    let before = (content(&data), content(&space));
    assert!(Claim::take(&layout(&data, &space), Some("run-1"), None).is_err());
    assert_eq!((content(&data), content(&space)), before);
    // Nor is anything emptied under a server.
    fs::remove_file(space.join("theirs")).unwrap();
    fs::write(data.join("postmaster.pid"), "1").unwrap();
    assert!(Claim::take(&layout(&data, &space), Some("run-1"), None).is_err());
    assert_eq!(names(&data), [MARKER, "base", "pg_tblspc", "postmaster.pid"]);
}

#[test]
fn kernels_that_tell_of_failed_writes() {
    for (release, tells) in [
        ("5.8.0-63-generic", true),
        ("6.1.0", true),
        ("10.0", true),
        ("5.7.19", false),
        ("4.18.0-553.el8_10.x86_64", false),
        ("", false),
    ] {
        assert_eq!(kernel_tells(release), tells, "{release}");
    }
}
