//! What a growing file holds after every kind of end.
#![allow(clippy::unwrap_used, reason = "tests")]
use std::path::Path;

use super::*;

fn begun(directory: &Path, key: &str, first: &'static [u8]) -> FileGrowing {
    let root = Arc::new(Root::open(directory.to_path_buf(), false).unwrap());
    FileGrowing::create(&root, &Key::new(key).unwrap(), Bytes::from_static(first)).unwrap()
}

fn bytes_of(path: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    assert_eq!(bytes.len() as u64 % STEP, 0);
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end);
    bytes
}

#[tokio::test]
async fn a_full_disk_ends_it_and_leaves_what_was_durable() {
    let directory = tempfile::tempdir().unwrap();
    let mut growing = begun(directory.path(), "x/a", b"one");
    growing.append(Bytes::from_static(b"two")).await.unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    growing.writing.as_mut().unwrap().file = full;
    let error = growing.append(Bytes::from_static(b"three")).await.unwrap_err();
    assert!(error.is(code::storage::FULL), "{error}");
    let error = growing.append(Bytes::from_static(b"four")).await.unwrap_err();
    assert!(error.is(code::storage::IO), "{error}");
    assert_eq!(bytes_of(&directory.path().join("x/a")), b"onetwo");
    assert_eq!(std::fs::read_dir(directory.path().join("x")).unwrap().count(), 1);
}

#[tokio::test]
async fn what_nobody_finds_any_more_takes_nothing() {
    for other_root in [false, true] {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("root");
        std::fs::create_dir(&directory).unwrap();
        let mut growing = begun(&directory, "x/a", b"one");
        let wanted = if other_root {
            std::fs::rename(&directory, parent.path().join("away")).unwrap();
            code::storage::ROOT_REPLACED
        } else {
            std::fs::remove_file(directory.join("x/a")).unwrap();
            code::storage::OBJECT
        };
        let error = growing.append(Bytes::from_static(b"two")).await.unwrap_err();
        assert!(error.is(wanted), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_grows_the_same_on_a_runtime_that_may_be_blocked() {
    let directory = tempfile::tempdir().unwrap();
    let mut growing = begun(directory.path(), "a", b"one");
    let task = tokio::spawn(async move {
        for _ in 0..3 {
            growing.append(vec![7; 500_000].into()).await?;
        }
        Ok::<_, Error>(())
    });
    task.await.unwrap().unwrap();
    let mut wanted = b"one".to_vec();
    wanted.resize(3 + 1_500_000, 7);
    assert_eq!(bytes_of(&directory.path().join("a")), wanted);
}
