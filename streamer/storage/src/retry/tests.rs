//! Lost answers, refusals and bounds, over a store with scripted faults.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
use std::sync::Arc;

use super::*;
use crate::{Call, Fault, FaultStore, MemoryStore};

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn retrying(faults: &Arc<FaultStore>) -> Retrying {
    let at_once = RetryPolicy {
        jitter: || 0.0,
        ..RetryPolicy::default()
    };
    Retrying::new(faults.clone(), at_once)
}

fn faults() -> Arc<FaultStore> {
    Arc::new(FaultStore::new(Arc::new(MemoryStore::new())))
}

fn lost() -> Error {
    Error::new(code::storage::UNREACHABLE, "connection reset").retry(Retry::Now)
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_reading_back() {
    let faults = faults();
    faults.on(Call::PutNew, 1, Fault::FailAfter(lost()));
    let created = retrying(&faults)
        .put_new(&key("a"), Bytes::from_static(b"ours"))
        .await
        .unwrap();
    assert_eq!(created, Created::Created);
    assert_eq!(faults.count(Call::PutNew), 2);
    assert_eq!(faults.count(Call::Get), 1);
}

#[tokio::test]
async fn a_lost_answer_over_anothers_object_says_exists() {
    let faults = faults();
    faults.put_new(&key("a"), Bytes::from_static(b"theirs")).await.unwrap();
    faults.on(Call::PutNew, 2, Fault::FailBefore(lost()));
    let store = retrying(&faults);
    assert_eq!(
        store.put_new(&key("a"), Bytes::from_static(b"ours")).await.unwrap(),
        Created::Exists
    );
    assert_eq!(store.get(&key("a")).await.unwrap().unwrap(), "theirs");
}

#[tokio::test]
async fn without_a_lost_answer_equal_bytes_still_exist() {
    let faults = faults();
    let store = retrying(&faults);
    assert_eq!(
        store.put_new(&key("a"), Bytes::from_static(b"x")).await.unwrap(),
        Created::Created
    );
    assert_eq!(
        store.put_new(&key("a"), Bytes::from_static(b"x")).await.unwrap(),
        Created::Exists
    );
    assert_eq!(faults.count(Call::Get), 0);
}

#[tokio::test]
async fn an_object_removed_between_is_written_again() {
    let faults = faults();
    faults.on(Call::PutNew, 1, Fault::FailAfter(lost()));
    faults.on(Call::PutNew, 2, Fault::AnswerExists);
    let store = retrying(&faults);
    // The second put is told "exists", the object is gone when it is read, so the third writes it.
    faults.on(Call::Get, 1, Fault::RemoveFirst);
    assert_eq!(
        store.put_new(&key("a"), Bytes::from_static(b"ours")).await.unwrap(),
        Created::Created
    );
    assert_eq!(faults.count(Call::PutNew), 3);
}

#[tokio::test]
async fn refusals_are_not_repeated() {
    let faults = faults();
    faults.on(
        Call::PutNew,
        1,
        Fault::FailBefore(Error::new(code::storage::FULL, "no space")),
    );
    let error = retrying(&faults).put_new(&key("a"), Bytes::new()).await.unwrap_err();
    assert!(error.is(code::storage::FULL));
    assert_eq!(faults.count(Call::PutNew), 1);
}

#[tokio::test]
async fn tries_are_bounded() {
    let faults = faults();
    faults.every(Call::Get, || Fault::FailBefore(lost()));
    let error = retrying(&faults).get(&key("a")).await.unwrap_err();
    assert!(error.is(code::storage::UNREACHABLE));
    assert_eq!(faults.count(Call::Get), u64::from(RetryPolicy::default().attempts));
}

#[test]
fn pauses_double_up_to_the_cap_and_the_end() {
    let longest = RetryPolicy {
        jitter: || 1.0,
        ..RetryPolicy::default()
    };
    let pause = |made, advice, elapsed| {
        longest
            .pause(made, advice, Duration::from_secs(elapsed))
            .map(|p| p.as_millis())
    };
    let pauses: Vec<_> = (1..=8).map(|made| pause(made, Retry::Later, 0)).collect();
    assert_eq!(
        pauses,
        [
            Some(500),
            Some(1000),
            Some(2000),
            Some(4000),
            Some(8000),
            Some(10_000),
            Some(10_000),
            None
        ]
    );
    assert_eq!(pause(1, Retry::Now, 0), Some(100));
    assert_eq!(pause(1, Retry::Never, 0), None);
    assert_eq!(pause(5, Retry::Later, 81), Some(8000));
    assert_eq!(pause(5, Retry::Later, 83), None);
    let endless = RetryPolicy {
        attempts: u32::MAX,
        ..longest
    };
    assert_eq!(
        endless.pause(u32::MAX - 1, Retry::Now, Duration::ZERO),
        Some(endless.cap)
    );
}

#[test]
fn jitter_is_full() {
    let policy = RetryPolicy::default();
    let pauses: Vec<_> = (0..200)
        .filter_map(|_| policy.pause(4, Retry::Now, Duration::ZERO))
        .collect();
    assert_eq!(pauses.len(), 200);
    assert!(pauses.iter().any(|pause| *pause < policy.base * 2) && pauses.iter().any(|pause| *pause > policy.base * 6));
    assert!(pauses.iter().all(|pause| *pause <= policy.base * 8));
}

#[tokio::test]
async fn a_delete_whose_answer_was_lost_counts() {
    let faults = faults();
    faults.put_new(&key("a"), Bytes::new()).await.unwrap();
    faults.on(Call::Delete, 1, Fault::FailAfter(lost()));
    let store = retrying(&faults);
    assert!(store.delete(&key("a")).await.unwrap());
    assert!(!store.delete(&key("a")).await.unwrap());
}
