//! Marks, failures and waiting, with a sync that can be watched and made to fail.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, TryLockError};

use super::*;

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn root(path: &Path, fsync: impl Fn(BorrowedFd<'_>) -> Result<(), Errno> + Send + Sync + 'static) -> Root {
    let mut root = Root::open(path.to_path_buf(), false).unwrap();
    root.durability = Durability::with(fsync);
    root
}

/// A root whose syncs are told by the number of the file.
fn watched(path: &Path) -> (Root, Receiver<u64>) {
    let (tell, told) = channel();
    let fsync = move |file: BorrowedFd<'_>| {
        tell.send(rustix::fs::fstat(file)?.st_ino).unwrap();
        disk::sync(file)
    };
    (root(path, fsync), told)
}

fn number(path: &Path) -> u64 {
    rustix::fs::stat(path).unwrap().st_ino
}

#[test]
fn the_chain_up_to_the_root_once_and_deepest_first() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::create_dir_all(path.join("a/b")).unwrap();
    std::fs::create_dir_all(path.join("a-b")).unwrap();
    let (root, synced) = watched(path);
    for name in ["a/b/one", "a/b/two", "a-b/three", "four"] {
        root.durability.changed(&key(name));
    }
    root.durability.barrier(&root).unwrap();
    let chain = ["a/b", "a-b", "a", "."].map(|folder| number(&path.join(folder)));
    assert_eq!(synced.try_iter().collect::<Vec<_>>(), chain);
    root.durability.barrier(&root).unwrap();
    assert_eq!(synced.try_iter().count(), 0, "nothing was marked");
}

/// What a directory is needs no second sync, and what another one in its place is does.
#[test]
fn the_chain_above_a_directory_that_stayed_is_not_synced_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::create_dir_all(path.join("a/b")).unwrap();
    let (root, synced) = watched(path);
    let barrier = |names: &[&str]| {
        for name in names {
            root.durability.changed(&key(name));
        }
        root.durability.barrier(&root).unwrap();
        synced.try_iter().collect::<Vec<_>>()
    };
    let numbers = |folders: &[&str]| {
        folders
            .iter()
            .map(|folder| number(&path.join(folder)))
            .collect::<Vec<_>>()
    };
    assert_eq!(barrier(&["a/b/one"]), numbers(&["a/b", "a", "."]));
    assert_eq!(barrier(&["a/b/two"]), numbers(&["a/b"]));
    assert_eq!(
        barrier(&["a/three", "a/b/three"]),
        numbers(&["a/b", "a", "."]),
        "a had a new name"
    );
    assert_eq!(barrier(&["a/four", "a/b/four"]), numbers(&["a/b", "a"]));

    // Somebody removes the folder and makes it again: its name is another one.
    std::fs::remove_dir_all(path.join("a/b")).unwrap();
    std::fs::create_dir_all(path.join("a/b")).unwrap();
    assert_eq!(barrier(&["a/b/five"]), numbers(&["a/b", "a", "."]));
    std::fs::remove_dir_all(path.join("a")).unwrap();
    std::fs::create_dir_all(path.join("a/b")).unwrap();
    assert_eq!(barrier(&["a/b/six"]), numbers(&["a/b", "a", "."]));
    // Gone at the time of the barrier, and made after it.
    std::fs::remove_dir_all(path.join("a/b")).unwrap();
    assert_eq!(barrier(&["a/b/seven"]), numbers(&["a", "."]));
    std::fs::create_dir_all(path.join("a/b")).unwrap();
    assert_eq!(barrier(&["a/b/eight"]), numbers(&["a/b", "a", "."]));

    // More than are held.
    for number in 0..40 {
        std::fs::create_dir(path.join(format!("d{number}"))).unwrap();
        assert_eq!(barrier(&[&format!("d{number}/one")]).len(), 2);
    }
    assert_eq!(barrier(&["a/b/nine"]).len(), 3, "it was forgotten");
    assert_eq!(barrier(&["d39/two"]).len(), 1);
}

/// A chain that was not synced to its end leaves nothing that counts as settled.
#[test]
fn a_failure_above_settles_nothing_below() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::create_dir_all(path.join("z/b")).unwrap();
    let (root, synced) = watched(path);
    root.durability.changed(&key("z/b/one"));
    std::os::unix::fs::symlink("loop", path.join("loop")).unwrap();
    root.durability.changed(&key("loop/one"));
    assert!(root.durability.barrier(&root).is_err());
    synced.try_iter().count();
    std::fs::remove_file(path.join("loop")).unwrap();
    root.durability.barrier(&root).unwrap();
    assert_eq!(
        synced.try_iter().collect::<Vec<_>>(),
        [number(path)],
        "what is left of it"
    );
    root.durability.changed(&key("z/b/two"));
    root.durability.barrier(&root).unwrap();
    let wanted = ["z/b", "z", "."].map(|name| number(&path.join(name)));
    assert_eq!(synced.try_iter().collect::<Vec<_>>(), wanted);
}

#[test]
fn what_another_made_is_synced_with_its_bytes_and_its_chain() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::create_dir_all(path.join("a/b")).unwrap();
    for name in ["a/b/one", "two"] {
        std::fs::write(path.join(name), "x").unwrap();
    }
    let (root, synced) = watched(path);
    root.durability.confirm(&root, &[key("a/b/one"), key("two")]).unwrap();
    let wanted = ["a/b/one", "two", "a/b", "a", "."].map(|name| number(&path.join(name)));
    assert_eq!(synced.try_iter().collect::<Vec<_>>(), wanted);
}

#[test]
fn a_removed_directory_is_no_failure() {
    let directory = tempfile::tempdir().unwrap();
    let (root, synced) = watched(directory.path());
    root.durability.changed(&key("gone/one"));
    root.durability.barrier(&root).unwrap();
    assert_eq!(synced.try_iter().collect::<Vec<_>>(), [number(directory.path())]);
}

#[test]
fn a_directory_that_cannot_be_opened_stays_marked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (root, synced) = watched(path);
    std::os::unix::fs::symlink("loop", path.join("loop")).unwrap();
    root.durability.changed(&key("loop/one"));
    assert!(root.durability.barrier(&root).is_err());
    assert!(root.durability.barrier(&root).is_err());
    std::fs::remove_file(path.join("loop")).unwrap();
    std::fs::create_dir(path.join("loop")).unwrap();
    root.durability.barrier(&root).unwrap();
    let wanted = ["loop", "."].map(|name| number(&path.join(name)));
    assert_eq!(synced.try_iter().collect::<Vec<_>>(), wanted);
}

/// A barrier has taken the marks and is in the middle of its fsync: another one finds nothing marked, and must neither
/// succeed before the first has nor when the first fails.
#[test]
fn a_second_barrier_waits_for_the_first() {
    for fails in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let (entered_tell, entered) = channel();
        let (go, wait) = channel::<()>();
        let wait = Mutex::new(wait);
        let root = Arc::new(root(directory.path(), move |_| {
            entered_tell.send(()).unwrap();
            wait.lock().unwrap().recv().unwrap();
            if fails { Err(Errno::IO) } else { Ok(()) }
        }));
        root.durability.changed(&key("a"));
        let barrier = || {
            let root = root.clone();
            std::thread::spawn(move || root.durability.barrier(&root))
        };
        let first = barrier();
        entered.recv().unwrap();
        assert!(root.durability.marks().is_empty());
        assert!(matches!(
            root.durability.barrier.try_lock(),
            Err(TryLockError::WouldBlock)
        ));
        let second = barrier();
        go.send(()).unwrap();
        assert_eq!(first.join().unwrap().is_err(), fails);
        assert_eq!(second.join().unwrap().is_err(), fails);
    }
}

#[test]
fn a_barrier_that_panicked_is_a_failed_one() {
    let directory = tempfile::tempdir().unwrap();
    let root = Arc::new(root(directory.path(), |_| panic!("by script")));
    root.durability.changed(&key("a"));
    let first = root.clone();
    assert!(
        std::thread::spawn(move || first.durability.barrier(&first))
            .join()
            .is_err()
    );
    assert!(root.durability.barrier(&root).is_err());
    assert!(root.durability.confirm(&root, &[]).is_err());
}
