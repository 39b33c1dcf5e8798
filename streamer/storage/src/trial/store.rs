//! Points around every call of a store, whatever is behind it.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hardstorage_report::Result;
use jiff::Timestamp;

use super::on::call;
use crate::{
    Caps, Created, DynStore, Growing, Heard, Key, ListRequest, Listing, ObjectMeta, Store, SweepRequest, Swept, Upload,
};

#[derive(Debug)]
pub(super) struct Watched(pub(super) DynStore);

async fn between<T>(name: &str, key: &str, work: impl Future<Output = T>) -> T {
    call(name, "before", key);
    let result = work.await;
    call(name, "after", key);
    result
}

#[async_trait]
impl Store for Watched {
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<Created> {
        between("put_new", key.as_str(), self.0.put_new(key, body)).await
    }

    async fn put_durable(&self, key: &Key, body: Bytes) -> Result<Created> {
        between("put_durable", key.as_str(), self.0.put_durable(key, body)).await
    }

    async fn upload_new(&self, key: &Key) -> Result<Box<dyn Upload>> {
        let inner = between("upload_new", key.as_str(), self.0.upload_new(key)).await?;
        Ok(Box::new(WatchedUpload {
            inner,
            key: key.clone(),
        }))
    }

    async fn grow_new(&self, key: &Key, first: Bytes) -> Result<Option<Box<dyn Growing>>> {
        let inner = between("grow_new", key.as_str(), self.0.grow_new(key, first)).await?;
        Ok(inner.map(|inner| {
            Box::new(WatchedGrowing {
                inner,
                key: key.clone(),
            }) as Box<dyn Growing>
        }))
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        between("get", key.as_str(), self.0.get(key)).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        between("get_range", key.as_str(), self.0.get_range(key, range)).await
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectMeta>> {
        between("head", key.as_str(), self.0.head(key)).await
    }

    async fn list(&self, request: &ListRequest) -> Result<Listing> {
        between("list", &request.prefix, self.0.list(request)).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        between("delete", key.as_str(), self.0.delete(key)).await
    }

    async fn sync(&self) -> Result<()> {
        between("sync", ".", self.0.sync()).await
    }

    async fn confirm(&self, keys: &[Key]) -> Result<()> {
        let first = keys.first().map_or(".", Key::as_str);
        between("confirm", first, self.0.confirm(keys)).await
    }

    async fn sweep(&self, request: &SweepRequest) -> Result<Swept> {
        between("sweep", ".", self.0.sweep(request)).await
    }

    async fn clock(&self) -> Result<Timestamp> {
        between("clock", ".", self.0.clock()).await
    }

    async fn clock_lately(&self, age: Duration) -> Result<Heard> {
        between("clock", ".", self.0.clock_lately(age)).await
    }

    fn caps(&self) -> Caps {
        self.0.caps()
    }

    fn url(&self) -> String {
        self.0.url()
    }
}

struct WatchedUpload {
    inner: Box<dyn Upload>,
    key: Key,
}

#[async_trait]
impl Upload for WatchedUpload {
    async fn write(&mut self, part: Bytes) -> Result<()> {
        between("upload_write", self.key.as_str(), self.inner.write(part)).await
    }

    async fn finish(self: Box<Self>) -> Result<Created> {
        between("upload_finish", self.key.as_str(), self.inner.finish()).await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        between("upload_abort", self.key.as_str(), self.inner.abort()).await
    }
}

#[derive(Debug)]
struct WatchedGrowing {
    inner: Box<dyn Growing>,
    key: Key,
}

#[async_trait]
impl Growing for WatchedGrowing {
    async fn append(&mut self, bytes: Bytes) -> Result<()> {
        between("append", self.key.as_str(), self.inner.append(bytes)).await
    }
}
