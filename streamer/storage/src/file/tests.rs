//! A whole store whose fsync fails once, as the kernel reports a lost write once.
#![allow(clippy::unwrap_used, reason = "tests")]
use std::sync::atomic::{AtomicU64, Ordering};

use super::durability::Durability;
use super::*;
use crate::{DynStore, RetryPolicy, Retrying, Throttle};

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

/// A store behind the layers that every store gets, whose fsync of this number fails. Counts them.
fn failing(path: &std::path::Path, number: u64) -> (DynStore, Arc<AtomicU64>) {
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    let mut root = Root::open(path.to_path_buf(), false).unwrap();
    root.durability = Durability::with(move |file| {
        if counted.fetch_add(1, Ordering::Relaxed) + 1 == number {
            Err(Errno::IO)
        } else {
            disk::sync(file)
        }
    });
    let store = FileStore {
        root: Arc::new(root),
        page: PAGE,
    };
    let at_once = RetryPolicy {
        jitter: || 0.0,
        ..RetryPolicy::default()
    };
    let store = Throttle::new(Arc::new(store.with_page(3)), 4, None);
    (Arc::new(Retrying::new(Arc::new(store), at_once)), count)
}

/// The failure is walked over every fsync of a barrier and of a confirmation: of the folder, its parents, the root, and
/// the object's own. Whatever came first, neither succeeds again, with or without new objects.
#[tokio::test]
async fn after_a_failed_fsync_nothing_is_durable_any_more() {
    for confirm_first in [false, true] {
        let syncs = if confirm_first { 5 } else { 3 };
        for number in 1..=syncs {
            let directory = tempfile::tempdir().unwrap();
            for theirs in ["x/y/1", "x/y/2"] {
                std::fs::create_dir_all(directory.path().join("x/y")).unwrap();
                std::fs::write(directory.path().join(theirs), "x").unwrap();
            }
            let (store, count) = failing(directory.path(), number);
            let found = [key("x/y/1"), key("x/y/2")];
            let failed = if confirm_first {
                store.confirm(&found).await
            } else {
                store.put_new(&key("x/y/3"), Bytes::new()).await.unwrap();
                store.sync().await
            };
            let case = format!("confirm first: {confirm_first}, fsync {number}");
            assert!(failed.unwrap_err().is(code::storage::IO), "{case}");
            assert_eq!(
                count.load(Ordering::Relaxed),
                number,
                "{case}: a second fsync was tried"
            );
            store.put_new(&key("x/y/4"), Bytes::new()).await.unwrap();
            for _ in 0..2 {
                assert!(store.sync().await.is_err(), "{case}");
                assert!(store.confirm(&found).await.is_err(), "{case}");
                assert!(store.confirm(&[]).await.is_err(), "{case}");
            }
            assert_eq!(
                count.load(Ordering::Relaxed),
                number,
                "{case}: a second fsync was tried"
            );
        }
        // The walk went over all of them: one more is never reached.
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("x/y")).unwrap();
        let (store, count) = failing(directory.path(), syncs + 1);
        for name in ["x/y/1", "x/y/2"] {
            std::fs::write(directory.path().join(name), "x").unwrap();
        }
        if confirm_first {
            store.confirm(&[key("x/y/1"), key("x/y/2")]).await.unwrap();
        } else {
            store.put_new(&key("x/y/3"), Bytes::new()).await.unwrap();
            store.sync().await.unwrap();
        }
        assert_eq!(count.load(Ordering::Relaxed), syncs);
    }
}

/// What a crashed writer linked and never synced: the next one finds the name taken, and its barrier covers it.
#[tokio::test]
async fn a_name_that_was_taken_is_synced_too() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("x")).unwrap();
    std::fs::write(directory.path().join("x/1"), "x").unwrap();
    let (store, count) = failing(directory.path(), u64::MAX);
    assert_eq!(store.put_new(&key("x/1"), Bytes::new()).await.unwrap(), Created::Exists);
    store.sync().await.unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 2);
    let again = store.put_durable(&key("x/1"), Bytes::new()).await.unwrap();
    assert_eq!((again, count.load(Ordering::Relaxed)), (Created::Exists, 3));
    let new = store.put_durable(&key("x/2"), Bytes::new()).await.unwrap();
    assert_eq!((new, count.load(Ordering::Relaxed)), (Created::Created, 4));
}
