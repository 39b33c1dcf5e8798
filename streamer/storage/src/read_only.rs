//! A store that refuses every change before it is tried: for restores and audits that must not be able to write.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hardstorage_report::{Error, Result, code};
use jiff::Timestamp;

use crate::{
    Caps, Created, DynStore, Growing, Heard, Key, ListRequest, Listing, ObjectMeta, Store, SweepRequest, Swept, Upload,
};

/// Reads go through, changes fail with `conflict.store_read_only`.
#[derive(Debug)]
pub struct ReadOnly(DynStore);

impl ReadOnly {
    /// Wraps a store.
    pub fn new(inner: DynStore) -> ReadOnly {
        ReadOnly(inner)
    }

    fn refuse<T>(&self, doing: &str, key: &Key) -> Result<T> {
        Err(Error::new(
            code::storage::READ_ONLY,
            format!("{doing} {key}: {} is opened for reading only", self.0.url()),
        ))
    }
}

#[async_trait]
impl Store for ReadOnly {
    async fn put_new(&self, key: &Key, _body: Bytes) -> Result<Created> {
        self.refuse("write", key)
    }

    async fn upload_new(&self, key: &Key) -> Result<Box<dyn Upload>> {
        self.refuse("write", key)
    }

    async fn grow_new(&self, key: &Key, _first: Bytes) -> Result<Option<Box<dyn Growing>>> {
        self.refuse("write", key)
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.0.get(key).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        self.0.get_range(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectMeta>> {
        self.0.head(key).await
    }

    async fn list(&self, request: &ListRequest) -> Result<Listing> {
        self.0.list(request).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.refuse("remove", key)
    }

    async fn sync(&self) -> Result<()> {
        Ok(())
    }

    /// Changes nothing, so it may be asked of the store below.
    async fn confirm(&self, keys: &[Key]) -> Result<()> {
        self.0.confirm(keys).await
    }

    /// Telling changes nothing.
    async fn sweep(&self, request: &SweepRequest) -> Result<Swept> {
        if request.apply {
            return Err(Error::new(
                code::storage::READ_ONLY,
                format!("sweep {}: it is opened for reading only", self.0.url()),
            ));
        }
        self.0.sweep(request).await
    }

    async fn clock(&self) -> Result<Timestamp> {
        self.0.clock().await
    }

    async fn clock_lately(&self, age: Duration) -> Result<Heard> {
        self.0.clock_lately(age).await
    }

    fn caps(&self) -> Caps {
        self.0.caps()
    }

    fn url(&self) -> String {
        self.0.url()
    }
}
