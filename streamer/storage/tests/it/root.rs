//! A root that is moved, removed, replaced or unmounted under an open store: nothing is written elsewhere, nothing is
//! acknowledged, and nothing is called absent.

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use hardstorage_report::{Code, code};
use hardstorage_storage::{Created, FileStore, Key, ListRequest, Store, Upload};

use crate::directory::{root, run_child};

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

/// A root with one object in it, opened, and an upload under way.
async fn open(path: &Path) -> (FileStore, Box<dyn Upload>) {
    let store = FileStore::open(path, true).await.unwrap();
    assert_eq!(
        store.put_new(&key("x/there"), Bytes::from_static(b"x")).await.unwrap(),
        Created::Created
    );
    store.sync().await.unwrap();
    let mut upload = store.upload_new(&key("x/upload")).await.unwrap();
    for _ in 0..2 {
        upload.write(Bytes::from(vec![1; 1 << 20])).await.unwrap();
    }
    (store, upload)
}

/// Every write, the barrier and every "not there" fail with this code.
async fn refuses(store: &FileStore, upload: Box<dyn Upload>, code: Code) {
    let absent = key("x/absent");
    for (call, result) in [
        ("finish", upload.finish().await.map(drop)),
        ("put", store.put_new(&key("new"), Bytes::new()).await.map(drop)),
        ("put deeper", store.put_new(&key("a/b"), Bytes::new()).await.map(drop)),
        (
            "put again",
            store.put_new(&key("x/there"), Bytes::new()).await.map(drop),
        ),
        ("sync", store.sync().await),
        ("confirm", store.confirm(&[key("x/there")]).await),
        ("confirm absent", store.confirm(std::slice::from_ref(&absent)).await),
        ("confirm nothing", store.confirm(&[]).await),
        ("get", store.get(&absent).await.map(drop)),
        ("get folder", store.get(&key("x")).await.map(drop)),
        ("range", store.get_range(&absent, 0..1).await.map(drop)),
        ("head", store.head(&absent).await.map(drop)),
        ("list", store.list(&ListRequest::under("")).await.map(drop)),
        ("list folder", store.list(&ListRequest::under("x/")).await.map(drop)),
        ("list level", store.list(&ListRequest::level("a/")).await.map(drop)),
        ("delete", store.delete(&absent).await.map(drop)),
        ("clock", store.clock().await.map(drop)),
    ] {
        let error = result.expect_err(call);
        assert!(error.is(code), "{call}: {error:?}");
    }
    let mut late = store.upload_new(&key("late")).await.unwrap();
    let written = late.write(Bytes::from(vec![1; 2 << 20])).await;
    assert!(written.is_err() || late.finish().await.unwrap_err().is(code));
}

fn entries(path: &Path) -> usize {
    std::fs::read_dir(path).unwrap().count()
}

#[tokio::test]
async fn a_root_that_is_moved_away() {
    let parent = tempfile::tempdir().unwrap();
    let (path, away) = (parent.path().join("root"), parent.path().join("away"));
    let (store, upload) = open(&path).await;
    std::fs::rename(&path, &away).unwrap();
    refuses(&store, upload, code::storage::ROOT_REPLACED).await;
    assert!(!path.exists(), "it was made by a write");

    // Another one in its place, as it lies below a mount point.
    std::fs::create_dir(&path).unwrap();
    let upload = store.upload_new(&key("x/upload")).await.unwrap();
    refuses(&store, upload, code::storage::ROOT_REPLACED).await;
    assert_eq!(entries(&path), 0, "something was written there");
    // What is there may be read to the end.
    assert_eq!(store.get(&key("x/there")).await.unwrap().unwrap(), "x");

    // Put back, it is the repository again.
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&away, &path).unwrap();
    assert!(store.get(&key("x/absent")).await.unwrap().is_none());
    store.put_new(&key("x/after"), Bytes::new()).await.unwrap();
    store.sync().await.unwrap();
    store.confirm(&[key("x/there"), key("x/after")]).await.unwrap();
}

#[tokio::test]
async fn a_root_that_is_removed() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("root");
    let (store, upload) = open(&path).await;
    std::fs::remove_dir_all(&path).unwrap();
    refuses(&store, upload, code::storage::ROOT_REPLACED).await;
    assert!(!path.exists(), "it was made by a write");
    let error = FileStore::open(&path, false).await.unwrap_err();
    assert!(error.is(code::storage::BUCKET), "{error:?}");
}

/// The names that a write has made when the root goes away before the barrier.
#[tokio::test]
async fn a_root_that_goes_between_a_write_and_its_barrier() {
    let parent = tempfile::tempdir().unwrap();
    let (path, away) = (parent.path().join("root"), parent.path().join("away"));
    let (store, _upload) = open(&path).await;
    store.put_new(&key("x/new"), Bytes::new()).await.unwrap();
    std::fs::rename(&path, &away).unwrap();
    for _ in 0..2 {
        let error = store.sync().await.unwrap_err();
        assert!(error.is(code::storage::ROOT_REPLACED), "{error:?}");
    }
    std::fs::rename(&away, &path).unwrap();
    store.sync().await.unwrap();
}

fn umount(arguments: &[&str]) -> bool {
    let output = Command::new("umount").args(arguments).arg(root()).output().unwrap();
    output.status.success()
}

fn mount() {
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "none"])
        .arg(root())
        .output()
        .unwrap();
    assert!(mount.status.success(), "{mount:?}");
}

#[test]
fn volumes_come_and_go() {
    let below: PathBuf = tempfile::tempdir().unwrap().keep();
    let mount = "mount -t tmpfs none \"$HARDSTORAGE_TEST_ROOT\"";
    for child in ["root::unmounted", "root::unmounted_lazily"] {
        run_child(child, mount, &below);
        assert_eq!(entries(&below), 0, "{child}: something lies below the mount point");
    }
    std::fs::remove_dir(&below).unwrap();
}

#[tokio::test]
#[ignore = "run as a child by volumes_come_and_go, with a volume mounted"]
async fn unmounted() {
    let (store, upload) = open(&root()).await;
    upload.abort().await.unwrap();
    assert!(!umount(&[]), "a volume that is in use was unmounted");
    store.put_new(&key("x/after"), Bytes::new()).await.unwrap();
    store.sync().await.unwrap();
    drop(store);
    assert!(umount(&[]), "nothing holds it any more");
}

#[tokio::test]
#[ignore = "run as a child by volumes_come_and_go, with a volume mounted"]
async fn unmounted_lazily() {
    let (store, upload) = open(&root()).await;
    assert!(umount(&["--lazy"]));
    refuses(&store, upload, code::storage::ROOT_REPLACED).await;
    assert_eq!(entries(&root()), 0, "something was written below the mount point");
    assert_eq!(store.get(&key("x/there")).await.unwrap().unwrap(), "x");
    // Another volume in its place is not the repository either.
    mount();
    let upload = store.upload_new(&key("x/upload")).await.unwrap();
    refuses(&store, upload, code::storage::ROOT_REPLACED).await;
    assert_eq!(entries(&root()), 0, "something was written to another volume");
    assert!(umount(&[]));
}
