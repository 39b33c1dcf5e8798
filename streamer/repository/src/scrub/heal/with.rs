//! A store in which one object has other bytes than below: so that bytes in hand are checked by the very code that will
//! read them once they are stored.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hardstorage_report::{Error, Result, code};
use hardstorage_storage::{
    Caps, Created, DynStore, Key, ListRequest, Listing, ObjectMeta, ReadOnly, Store, SweepRequest, Swept, Upload,
};
use jiff::Timestamp;

/// Reads go through, but for one object; nothing is written.
#[derive(Debug)]
pub(super) struct With {
    below: ReadOnly,
    key: Key,
    bytes: Bytes,
}

impl With {
    /// The store below with this object.
    pub(super) fn store(below: &DynStore, key: &Key, bytes: Bytes) -> DynStore {
        Arc::new(With {
            below: ReadOnly::new(below.clone()),
            key: key.clone(),
            bytes,
        })
    }
}

#[async_trait]
impl Store for With {
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<Created> {
        self.below.put_new(key, body).await
    }

    async fn upload_new(&self, key: &Key) -> Result<Box<dyn Upload>> {
        self.below.upload_new(key).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        if *key == self.key {
            return Ok(Some(self.bytes.clone()));
        }
        self.below.get(key).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        if *key != self.key {
            return self.below.get_range(key, range).await;
        }
        let within = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        within
            .filter(|(from, to)| from <= to && *to <= self.bytes.len())
            .map(|(from, to)| self.bytes.slice(from..to))
            // Not the store's fault: the object is shorter than it says itself.
            .ok_or_else(|| Error::new(code::repository::OBJECT_CORRUPT, format!("object {key} is too short")))
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectMeta>> {
        if *key == self.key {
            return Ok(Some(ObjectMeta {
                key: key.clone(),
                size: self.bytes.len() as u64,
                modified: None,
            }));
        }
        self.below.head(key).await
    }

    async fn list(&self, request: &ListRequest) -> Result<Listing> {
        self.below.list(request).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.below.delete(key).await
    }

    async fn sync(&self) -> Result<()> {
        self.below.sync().await
    }

    async fn confirm(&self, keys: &[Key]) -> Result<()> {
        self.below.confirm(keys).await
    }

    async fn sweep(&self, request: &SweepRequest) -> Result<Swept> {
        self.below.sweep(request).await
    }

    async fn clock(&self) -> Result<Timestamp> {
        self.below.clock().await
    }

    fn caps(&self) -> Caps {
        self.below.caps()
    }

    fn url(&self) -> String {
        self.below.url()
    }
}
