//! What only a directory can show: modes, foreign files, a full or read-only disk, refusals.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bytes::Bytes;
use hardstorage_report::code;
use hardstorage_storage::{Created, FileStore, Key, ListRequest, Store};

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

async fn store(path: &Path) -> FileStore {
    FileStore::open(path, false).await.unwrap()
}

#[tokio::test]
async fn only_the_owner_may_look() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("repo");
    let store = FileStore::open(&root, true).await.unwrap();
    store.put_new(&key("a/b/c"), Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(
        [mode(&root), mode(&root.join("a")), mode(&root.join("a/b"))],
        [0o700; 3]
    );
    assert_eq!(mode(&root.join("a/b/c")), 0o600);
}

#[tokio::test]
async fn foreign_files_are_not_objects() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path();
    std::fs::create_dir_all(path.join("lost+found")).unwrap();
    std::fs::create_dir_all(path.join("empty/er")).unwrap();
    for foreign in [".tmp-0123", "a file", "back~", "lost+found/x", ".hidden"] {
        std::fs::write(path.join(foreign), "x").unwrap();
    }
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        path.join("pipe"),
        rustix::fs::Mode::from_raw_mode(0o600),
    )
    .unwrap();
    let store = store(path).await;
    store.put_new(&key("real"), Bytes::new()).await.unwrap();
    let listing = store.list(&ListRequest::level("")).await.unwrap();
    assert_eq!(
        listing.objects.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(),
        ["real"]
    );
    assert_eq!(listing.folders, Vec::<String>::new());
    assert!(store.get(&key("pipe")).await.unwrap().is_none());
    assert!(store.head(&key("empty")).await.unwrap().is_none());
    assert!(store.get(&key("empty")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_file_where_a_folder_should_be() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path()).await;
    store.put_new(&key("a"), Bytes::new()).await.unwrap();
    assert!(
        store
            .put_new(&key("a/b"), Bytes::new())
            .await
            .unwrap_err()
            .is(code::storage::IO)
    );
    assert!(store.get(&key("a/b")).await.unwrap().is_none());
    let file = root.path().join("a");
    assert!(
        FileStore::open(&file, false)
            .await
            .unwrap_err()
            .is(code::storage::BUCKET)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_leaves_nothing_behind_when_dropped() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path()).await;
    let mut upload = store.upload_new(&key("x/big")).await.unwrap();
    for _ in 0..8 {
        upload.write(Bytes::from(vec![1; 1 << 20])).await.unwrap();
    }
    drop(upload);
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while std::fs::read_dir(root.path().join("x")).unwrap().count() > 0 {
        assert!(std::time::Instant::now() < deadline, "the temporary file stays");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Writers that make a folder against removers that take it away as empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn folders_come_and_go_under_writers() {
    let root = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(store(root.path()).await);
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let store = store.clone();
        tasks.spawn(async move {
            for _ in 0..100 {
                let key = key(&format!("deep/er/w{writer}"));
                assert_eq!(
                    store.put_new(&key, Bytes::from_static(b"x")).await.unwrap(),
                    Created::Created
                );
                assert!(store.delete(&key).await.unwrap());
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    store.sync().await.unwrap();
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
}

/// Two processes: here two stores, which share nothing but the directory.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_race() {
    let root = tempfile::tempdir().unwrap();
    let stores = [store(root.path()).await, store(root.path()).await].map(std::sync::Arc::new);
    for round in 0..50 {
        let name = key(&format!("race/{round}"));
        let puts = stores.iter().enumerate().map(|(who, store)| {
            let (store, name) = (store.clone(), name.clone());
            tokio::spawn(async move { store.put_new(&name, Bytes::from(vec![who as u8; 5000])).await.unwrap() })
        });
        let told = futures::future::join_all(puts).await;
        let winners: Vec<usize> = (0..2)
            .filter(|who| *told[*who].as_ref().unwrap() == Created::Created)
            .collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(
            stores[0].get(&name).await.unwrap().unwrap(),
            vec![winners[0] as u8; 5000]
        );
    }
}

pub const ROOT: &str = "HARDSTORAGE_TEST_ROOT";

/// Runs a test as a child, in a mount namespace of its own, after this shell command.
pub fn run_child(test: &str, mount: &str, root: &Path) {
    let output = std::process::Command::new("unshare")
        .args([
            "--mount",
            "--map-root-user",
            "sh",
            "-ec",
            &format!("{mount}; exec \"$0\" \"$@\""),
        ])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(ROOT, root)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub fn root() -> std::path::PathBuf {
    std::env::var_os(ROOT).unwrap().into()
}

#[test]
fn full_and_read_only_disks() {
    let root = tempfile::tempdir().unwrap();
    run_child(
        "directory::full_disk",
        "mount -t tmpfs -o size=2m none \"$HARDSTORAGE_TEST_ROOT\"",
        root.path(),
    );
    std::fs::write(root.path().join("there"), "x").unwrap();
    let mount = "mount --bind \"$HARDSTORAGE_TEST_ROOT\" \"$HARDSTORAGE_TEST_ROOT\"; \
                 mount -o remount,bind,ro \"$HARDSTORAGE_TEST_ROOT\"";
    run_child("directory::read_only_disk", mount, root.path());
}

#[tokio::test]
#[ignore = "run as a child by full_and_read_only_disks, on a disk of 2 MiB"]
async fn full_disk() {
    let store = store(&root()).await;
    store.put_new(&key("small"), Bytes::from(vec![1; 1000])).await.unwrap();
    let error = store
        .put_new(&key("x/large"), Bytes::from(vec![1; 4 << 20]))
        .await
        .unwrap_err();
    assert!(error.is(code::storage::FULL), "{error:?}");
    let mut upload = store.upload_new(&key("x/upload")).await.unwrap();
    let mut result = Ok(());
    for _ in 0..8 {
        result = upload.write(Bytes::from(vec![1; 1 << 20])).await;
        if result.is_err() {
            break;
        }
    }
    assert!(result.unwrap_err().is(code::storage::FULL));
    // A failed upload does not come back to life.
    assert!(upload.finish().await.is_err());
    // What was there stays, nothing half is there, and the space is free again.
    assert_eq!(store.get(&key("small")).await.unwrap().unwrap(), vec![1; 1000]);
    assert!(store.head(&key("x/large")).await.unwrap().is_none());
    assert_eq!(std::fs::read_dir(root().join("x")).unwrap().count(), 0);
    assert_eq!(
        store.put_new(&key("y"), Bytes::from(vec![2; 1 << 20])).await.unwrap(),
        Created::Created
    );
}

#[tokio::test]
#[ignore = "run as a child by full_and_read_only_disks, on a disk mounted read-only"]
async fn read_only_disk() {
    let store = store(&root()).await;
    assert_eq!(store.get(&key("there")).await.unwrap().unwrap(), "x");
    for error in [
        store.put_new(&key("a"), Bytes::new()).await.map(drop).unwrap_err(),
        store.put_new(&key("a/b"), Bytes::new()).await.map(drop).unwrap_err(),
        store.delete(&key("there")).await.map(drop).unwrap_err(),
        store.clock().await.map(drop).unwrap_err(),
    ] {
        assert!(error.is(code::storage::READ_ONLY), "{error:?}");
    }
    assert_eq!(
        store.put_new(&key("there"), Bytes::new()).await.unwrap(),
        Created::Exists
    );
}

/// Root may do everything, so another user looks at a directory that is not his.
#[test]
fn a_directory_of_another() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("closed");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("there"), "x").unwrap();
    std::fs::set_permissions(parent.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o555)).unwrap();
    std::fs::set_permissions(root.join("there"), std::fs::Permissions::from_mode(0o000)).unwrap();
    // The binary may lie where the other user cannot go, so it runs from here.
    let program = parent.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = std::process::Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program);
        command
    } else {
        std::process::Command::new(&program)
    };
    let output = command
        .args(["--exact", "directory::denied", "--ignored", "--nocapture"])
        .current_dir("/")
        .env(ROOT, &root)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
#[ignore = "run as a child by a_directory_of_another, as a user who may not write"]
async fn denied() {
    let store = store(&root()).await;
    for error in [
        store.put_new(&key("a"), Bytes::new()).await.map(drop).unwrap_err(),
        store.put_new(&key("a/b"), Bytes::new()).await.map(drop).unwrap_err(),
        store.get(&key("there")).await.map(drop).unwrap_err(),
        store.delete(&key("there")).await.map(drop).unwrap_err(),
        store.clock().await.map(drop).unwrap_err(),
    ] {
        assert!(error.is(code::storage::DENIED), "{error:?}");
        assert_eq!(error.exit_code(), 3);
    }
}
