//! `self install`: how an init container brings this program into the container of a server.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};

use crate::product;

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_copy_runs_and_replaces_one_that_is_there_in_one_step() {
    let root = tempfile::tempdir().unwrap();
    let place = root.path().join("bin");
    fs::create_dir(&place).unwrap();
    let target = place.join("pg_hardstorage");
    fs::write(&target, "an older one").unwrap();
    let older = fs::File::open(&target).unwrap();
    let install = |program: &Path| -> Output {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", root.path());
        command
            .args(["self", "install", place.to_str().unwrap()])
            .output()
            .unwrap()
    };
    let made = product(root.path())
        .args(["self", "install", place.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let installed = fs::metadata(&target).unwrap();
    assert_eq!(installed.permissions().mode() & 0o777, 0o755);
    // Whoever runs the older one keeps it: another file took its name.
    assert_ne!(older.metadata().unwrap().ino(), installed.ino());
    assert_eq!(older.metadata().unwrap().len(), 12);
    let version = Command::new(&target).arg("version").env_clear().output().unwrap();
    assert!(version.status.success(), "{version:?}");

    // Also over itself, while it runs.
    let again = install(&target);
    assert!(again.status.success(), "{again:?}");
    assert_eq!(fs::metadata(&target).unwrap().len(), installed.len());
    assert_eq!(names(&place), ["pg_hardstorage"], "nothing else is left");
}

#[test]
fn a_directory_that_is_not_there_and_a_name_that_is_taken_are_errors_and_leave_nothing() {
    let root = tempfile::tempdir().unwrap();
    let install = |place: &Path| {
        let words = ["self", "install", place.to_str().unwrap()];
        product(root.path()).args(words).output().unwrap()
    };
    let absent = root.path().join("absent");
    let failed = install(&absent);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(!absent.exists());
    let taken = root.path().join("taken");
    fs::create_dir_all(taken.join("pg_hardstorage/folder")).unwrap();
    let failed = install(&taken);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert_eq!(names(&taken), ["pg_hardstorage"]);
}
