//! What goes, what stays, and what becomes of a writer that was only paused.
#![allow(clippy::unwrap_used, reason = "tests")]
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::super::FileUpload;
use super::super::staged::{Staged, temporary_name};
use super::*;
use crate::{FileStore, Store, Upload as _};

const DAY: Duration = Duration::from_hours(24);

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn aged(path: &Path, age: Duration) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now().checked_sub(age).unwrap()).unwrap();
}

/// A file that a killed writer left, so old.
fn left(root: &Path, folder: &str, bytes: usize, age: Duration) -> PathBuf {
    let path = root.join(temporary_name(folder));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, vec![1; bytes]).unwrap();
    aged(&path, age);
    path
}

fn names(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[tokio::test]
async fn old_ones_go_and_everything_else_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let store = FileStore::open(path, false).await.unwrap();
    store
        .put_new(&key("packs/db1/a/1"), Bytes::from_static(b"object"))
        .await
        .unwrap();
    let old = [
        left(path, "", 10, 2 * DAY),
        left(path, "packs/db1/a", 20, DAY + Duration::from_mins(1)),
        left(path, "packs/db1/gone/deep", 30, 2 * DAY),
    ];
    // Its writer died between the two names.
    let named = left(path, "packs/db1/a", 40, 2 * DAY);
    std::fs::hard_link(&named, path.join("packs/db1/a/2")).unwrap();
    let stays = [
        left(path, "packs/db1/a", 50, Duration::from_mins(24 * 60 - 1)),
        left(path, "lost+found", 60, 2 * DAY),
        path.join("packs/.tmp-notes"),
    ];
    std::fs::write(&stays[2], "somebody's own").unwrap();
    aged(&stays[2], 2 * DAY);

    let wanted = Swept { count: 4, bytes: 60 };
    assert_eq!(store.sweep(&SweepRequest::new(DAY, false)).await.unwrap(), wanted);
    assert!(old.iter().all(|path| path.exists()) && named.exists());
    assert_eq!(store.sweep(&SweepRequest::new(DAY, true)).await.unwrap(), wanted);
    assert!(!old.iter().any(|path| path.exists()) && !named.exists());
    assert!(stays.iter().all(|path| path.exists()));
    assert!(!path.join("packs/db1/gone").exists());
    assert_eq!(store.get(&key("packs/db1/a/1")).await.unwrap().unwrap(), "object");
    assert_eq!(store.get(&key("packs/db1/a/2")).await.unwrap().unwrap(), vec![1; 40]);
    assert_eq!(
        store.sweep(&SweepRequest::new(DAY, true)).await.unwrap(),
        Swept::default()
    );
    assert_eq!(
        store.sweep(&SweepRequest::new(Duration::MAX, true)).await.unwrap(),
        Swept::default()
    );
}

#[tokio::test]
async fn a_patient_folder_keeps_it_longer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let store = FileStore::open(path, false).await.unwrap();
    let waits = left(path, "wal/db1", 10, 9 * DAY);
    let old = [left(path, "wal/db1", 1, 11 * DAY), left(path, "walrus", 2, 2 * DAY)];
    let request = SweepRequest {
        patient: vec![("wal/".to_owned(), 10 * DAY)],
        ..SweepRequest::new(DAY, true)
    };
    assert_eq!(store.sweep(&request).await.unwrap(), Swept { count: 2, bytes: 3 });
    assert!(waits.exists() && !old.iter().any(|path| path.exists()));
}

#[tokio::test]
async fn no_link_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let behind = left(elsewhere.path(), "sub", 10, 2 * DAY);
    std::os::unix::fs::symlink(elsewhere.path(), directory.path().join("packs")).unwrap();
    let link = directory.path().join(temporary_name(""));
    std::os::unix::fs::symlink(&behind, &link).unwrap();
    let store = FileStore::open(directory.path(), false).await.unwrap();
    assert_eq!(
        store.sweep(&SweepRequest::new(Duration::ZERO, true)).await.unwrap(),
        Swept::default()
    );
    assert!(behind.exists() && link.is_symlink());
}

#[test]
fn a_paused_writer_fails_and_publishes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let root = Arc::new(Root::open(directory.path().to_path_buf(), false).unwrap());
    let mut staged = Staged::create(&root, &key("x/a")).unwrap().unwrap();
    staged.write(&mut [Bytes::from_static(b"bytes")]).unwrap();
    aged(
        &std::fs::read_dir(directory.path().join("x"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path(),
        2 * DAY,
    );
    assert_eq!(
        sweep(&root, &SweepRequest::new(DAY, true)).unwrap(),
        Swept { count: 1, bytes: 5 }
    );
    let error = staged.publish().unwrap_err();
    assert!(error.is(code::storage::IO), "{error}");
    assert!(error.to_string().contains("its temporary file was removed"), "{error}");
    assert_eq!(names(directory.path()), 0);
}

#[tokio::test]
async fn a_paused_upload_fails_beside_others() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path(), false).await.unwrap();
    let mut upload = FileUpload::new(store.root.clone(), key("x/a"));
    upload.write(Bytes::from(vec![3; 4 << 20])).await.unwrap();
    let folder = directory.path().join("x");
    let written = tokio::time::timeout(Duration::from_mins(1), async {
        loop {
            let file = std::fs::read_dir(&folder).ok().and_then(|mut files| files.next());
            if let Some(Ok(file)) = file
                && file.metadata().unwrap().len() == 4 << 20
            {
                return file.path();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    aged(&written.await.unwrap(), 2 * DAY);
    assert_eq!(store.sweep(&SweepRequest::new(DAY, true)).await.unwrap().count, 1);
    store.put_new(&key("x/b"), Bytes::from_static(b"other")).await.unwrap();
    let error = Box::new(upload).finish().await.unwrap_err();
    assert!(error.to_string().contains("its temporary file was removed"), "{error}");
    assert_eq!(names(&folder), 1);
    assert!(store.get(&key("x/a")).await.unwrap().is_none());
}
