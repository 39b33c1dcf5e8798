//! The faults do what they say.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
use hardstorage_report::code;

use super::*;
use crate::MemoryStore;

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

#[tokio::test]
async fn reads_can_be_short_or_changed() {
    let store = FaultStore::new(Arc::new(MemoryStore::new()));
    store.put_new(&key("a"), Bytes::from_static(b"abcdef")).await.unwrap();
    store
        .on(Call::Get, 1, Fault::ShortRead(2))
        .on(Call::Get, 2, Fault::FlipByte(7));
    assert_eq!(store.get(&key("a")).await.unwrap().unwrap(), "abcd");
    assert_eq!(store.get(&key("a")).await.unwrap().unwrap(), "aBcdef");
    assert_eq!(store.get(&key("a")).await.unwrap().unwrap(), "abcdef");
}

#[tokio::test]
async fn a_dead_store_does_nothing_more() {
    let inner = Arc::new(MemoryStore::new());
    let store = FaultStore::new(inner.clone());
    store.dead_from(2);
    store.put_new(&key("a"), Bytes::new()).await.unwrap();
    assert!(store.put_new(&key("b"), Bytes::new()).await.is_err());
    assert!(inner.head(&key("b")).await.unwrap().is_none());
    assert_eq!(
        store.log(),
        [(Call::PutNew, "a".to_owned()), (Call::PutNew, "b".to_owned())]
    );
}

#[tokio::test]
async fn a_gate_holds_a_call() {
    let inner = Arc::new(MemoryStore::new());
    let store = Arc::new(FaultStore::new(inner.clone()));
    let gate = Gate::new();
    store.on(Call::PutNew, 1, Fault::HoldAfter(gate.clone()));
    let task = tokio::spawn({
        let store = store.clone();
        async move { store.put_new(&key("a"), Bytes::new()).await.unwrap() }
    });
    gate.reached().await;
    assert!(inner.head(&key("a")).await.unwrap().is_some());
    assert!(!task.is_finished());
    gate.open();
    assert_eq!(task.await.unwrap(), Created::Created);
}

#[tokio::test]
async fn the_parts_of_an_upload_count() {
    let inner = Arc::new(MemoryStore::new());
    let store = FaultStore::new(inner.clone());
    store.on(Call::UploadWrite, 2, Fault::NoSpace);
    let mut upload = store.upload_new(&key("a")).await.unwrap();
    upload.write(Bytes::from_static(b"x")).await.unwrap();
    assert!(
        upload
            .write(Bytes::from_static(b"y"))
            .await
            .unwrap_err()
            .is(code::storage::FULL)
    );
    upload.abort().await.unwrap();
    assert!(inner.head(&key("a")).await.unwrap().is_none());
    assert_eq!(store.calls(), 4);
}
