//! A store that misbehaves by script: the tests of every crate above prove with it that no call may be lost, doubled,
//! cut short or answered with other bytes without being noticed.
//!
//! Faults are tied to the n-th call of a kind (counted from 1) or to the n-th call of all, so a test can walk a fault over
//! every storage call of a run. [`Gate`] holds a call until the test lets it go: "any process may pause anywhere".

mod script;

use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use hardstorage_report::Result;
use jiff::Timestamp;

use script::{Running, Script, begin, lock};

pub use script::{Call, Fault, Gate};

use crate::{
    Caps, Created, DynStore, Growing, Key, ListRequest, Listing, ObjectMeta, Store, SweepRequest, Swept, Upload,
};

/// A store with a script of faults.
pub struct FaultStore {
    inner: DynStore,
    script: Arc<Mutex<Script>>,
}

impl std::fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FaultStore({:?}, {} calls)", self.inner, self.calls())
    }
}

impl FaultStore {
    /// Wraps a store; without a script it only counts.
    pub fn new(inner: DynStore) -> FaultStore {
        FaultStore {
            inner,
            script: Arc::default(),
        }
    }

    /// The n-th call of this kind from the beginning (counted from 1) meets this fault. Several add up.
    pub fn on(&self, call: Call, number: u64, fault: Fault) -> &FaultStore {
        lock(&self.script).on.entry((call, number)).or_default().push(fault);
        self
    }

    /// The n-th call of any kind (counted from 1) meets this fault.
    pub fn at(&self, number: u64, fault: Fault) -> &FaultStore {
        lock(&self.script).at.entry(number).or_default().push(fault);
        self
    }

    /// Every call of this kind meets this fault.
    pub fn every(&self, call: Call, fault: impl Fn() -> Fault + Send + 'static) -> &FaultStore {
        lock(&self.script).every.insert(call, Box::new(fault));
        self
    }

    /// From the n-th call of any kind on, nothing reaches the store: what a killed process leaves behind.
    pub fn dead_from(&self, number: u64) -> &FaultStore {
        lock(&self.script).dead_from = Some(number);
        self
    }

    /// Forgets the faults that are left; counts stay.
    pub fn clear(&self) {
        let mut script = lock(&self.script);
        script.on.clear();
        script.at.clear();
        script.every.clear();
        script.dead_from = None;
    }

    /// Calls of all kinds so far.
    pub fn calls(&self) -> u64 {
        lock(&self.script).log.len() as u64
    }

    /// Calls of one kind so far.
    pub fn count(&self, call: Call) -> u64 {
        lock(&self.script).counts.get(&call).copied().unwrap_or(0)
    }

    /// Every call so far, with its key or prefix.
    pub fn log(&self) -> Vec<(Call, String)> {
        lock(&self.script).log.clone()
    }

    /// The most calls that ran at the same time.
    pub fn most_at_once(&self) -> usize {
        lock(&self.script).most_at_once
    }
}

impl FaultStore {
    async fn begin(&self, call: Call, key: &Key) -> Result<Running> {
        let mut running = begin(&self.script, call, key.as_str())?;
        running.before().await?;
        if running.wants_removal() {
            self.inner.delete(key).await?;
        }
        Ok(running)
    }
}

#[async_trait]
impl Store for FaultStore {
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<Created> {
        let running = self.begin(Call::PutNew, key).await?;
        let result = if running.answers_exists() {
            Ok(Created::Exists)
        } else {
            self.inner.put_new(key, body).await
        };
        running.after(result).await
    }

    async fn upload_new(&self, key: &Key) -> Result<Box<dyn Upload>> {
        let running = self.begin(Call::UploadNew, key).await?;
        let result = self.inner.upload_new(key).await;
        let inner = running.after(result).await?;
        Ok(Box::new(FaultUpload {
            inner,
            key: key.clone(),
            script: self.script.clone(),
        }))
    }

    async fn grow_new(&self, key: &Key, first: Bytes) -> Result<Option<Box<dyn Growing>>> {
        let running = self.begin(Call::GrowNew, key).await?;
        let result = self.inner.grow_new(key, first).await;
        let Some(inner) = running.after(result).await? else {
            return Ok(None);
        };
        Ok(Some(Box::new(FaultGrowing {
            inner,
            key: key.clone(),
            script: self.script.clone(),
        })))
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        let running = self.begin(Call::Get, key).await?;
        let result = self.inner.get(key).await;
        let result = result.map(|body| body.map(|body| running.damage(body)));
        running.after(result).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        let running = self.begin(Call::GetRange, key).await?;
        let result = self.inner.get_range(key, range).await;
        let result = result.map(|body| running.damage(body));
        running.after(result).await
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectMeta>> {
        let running = self.begin(Call::Head, key).await?;
        let result = self.inner.head(key).await;
        running.after(result).await
    }

    async fn list(&self, request: &ListRequest) -> Result<Listing> {
        let mut running = begin(&self.script, Call::List, &request.prefix)?;
        running.before().await?;
        let result = self.inner.list(request).await;
        running.after(result).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        let running = self.begin(Call::Delete, key).await?;
        let result = self.inner.delete(key).await;
        running.after(result).await
    }

    async fn sync(&self) -> Result<()> {
        let mut running = begin(&self.script, Call::Sync, "")?;
        running.before().await?;
        let result = self.inner.sync().await;
        running.after(result).await
    }

    async fn confirm(&self, keys: &[Key]) -> Result<()> {
        let about: Vec<&str> = keys.iter().map(Key::as_str).collect();
        let mut running = begin(&self.script, Call::Confirm, &about.join(" "))?;
        running.before().await?;
        let result = self.inner.confirm(keys).await;
        running.after(result).await
    }

    async fn sweep(&self, request: &SweepRequest) -> Result<Swept> {
        let mut running = begin(&self.script, Call::Sweep, "")?;
        running.before().await?;
        let result = self.inner.sweep(request).await;
        running.after(result).await
    }

    async fn clock(&self) -> Result<Timestamp> {
        let mut running = begin(&self.script, Call::Clock, "")?;
        running.before().await?;
        let result = self.inner.clock().await;
        running.after(result).await
    }

    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

struct FaultUpload {
    inner: Box<dyn Upload>,
    key: Key,
    script: Arc<Mutex<Script>>,
}

#[async_trait]
impl Upload for FaultUpload {
    async fn write(&mut self, part: Bytes) -> Result<()> {
        let mut running = begin(&self.script, Call::UploadWrite, self.key.as_str())?;
        running.before().await?;
        let result = self.inner.write(part).await;
        running.after(result).await
    }

    async fn finish(self: Box<Self>) -> Result<Created> {
        let mut running = begin(&self.script, Call::UploadFinish, self.key.as_str())?;
        running.before().await?;
        let result = self.inner.finish().await;
        running.after(result).await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let mut running = begin(&self.script, Call::UploadAbort, self.key.as_str())?;
        running.before().await?;
        let result = self.inner.abort().await;
        running.after(result).await
    }
}

struct FaultGrowing {
    inner: Box<dyn Growing>,
    key: Key,
    script: Arc<Mutex<Script>>,
}

impl std::fmt::Debug for FaultGrowing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FaultGrowing({:?})", self.inner)
    }
}

#[async_trait]
impl Growing for FaultGrowing {
    async fn append(&mut self, bytes: Bytes) -> Result<()> {
        let mut running = begin(&self.script, Call::Append, self.key.as_str())?;
        running.before().await?;
        let result = self.inner.append(bytes).await;
        running.after(result).await
    }
}

#[cfg(test)]
mod tests;
