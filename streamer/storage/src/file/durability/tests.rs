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
        sync_file(file)
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
