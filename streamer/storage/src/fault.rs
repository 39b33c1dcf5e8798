//! A store that misbehaves by script: the tests of every crate above prove with it that no call may be lost, doubled,
//! cut short or answered with other bytes without being noticed.
//!
//! Faults are tied to the n-th call of a kind (counted from 1) or to the n-th call of all, so a test can walk a fault over
//! every storage call of a run. [`Gate`] holds a call until the test lets it go: "any process may pause anywhere".

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hardstorage_report::{Error, Result, code};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::{Caps, Created, DynStore, Key, ListRequest, Listing, ObjectMeta, Store, Upload};

/// The kinds of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the method of its name")]
pub enum Call {
    PutNew,
    UploadNew,
    UploadWrite,
    UploadFinish,
    UploadAbort,
    Get,
    GetRange,
    Head,
    List,
    Delete,
    Sync,
    Clock,
}

/// What goes wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fault {
    /// The call fails and does nothing.
    FailBefore(Error),
    /// The call does its work, and then its answer is lost.
    FailAfter(Error),
    /// The store is full.
    NoSpace,
    /// The call starts later.
    Delay(Duration),
    /// The call waits before its work until the gate opens.
    HoldBefore(Gate),
    /// The call waits after its work until the gate opens.
    HoldAfter(Gate),
    /// A read gives so many bytes less, without saying so.
    ShortRead(usize),
    /// A read gives one byte changed, at this offset modulo the length.
    FlipByte(usize),
    /// The object is removed just before the call.
    RemoveFirst,
    /// A create answers "exists" and does nothing.
    AnswerExists,
}

/// Holds a call until it is opened.
#[derive(Debug, Clone)]
pub struct Gate(Arc<GateState>);

#[derive(Debug)]
struct GateState {
    reached: Semaphore,
    open: Semaphore,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Gate {
        Gate(Arc::new(GateState {
            reached: Semaphore::new(0),
            open: Semaphore::new(0),
        }))
    }

    /// Waits until a call stands before it.
    pub async fn reached(&self) {
        // The semaphores are never closed, so there is always a permit to forget.
        if let Ok(permit) = self.0.reached.acquire().await {
            permit.forget();
        }
    }

    /// Lets one call go on.
    pub fn open(&self) {
        self.0.open.add_permits(1);
    }

    async fn pass(&self) {
        self.0.reached.add_permits(1);
        if let Ok(permit) = self.0.open.acquire().await {
            permit.forget();
        }
    }
}

impl Default for Gate {
    fn default() -> Gate {
        Gate::new()
    }
}

type Maker = Box<dyn Fn() -> Fault + Send>;

#[derive(Default)]
struct Script {
    /// By kind and number.
    on: HashMap<(Call, u64), Vec<Fault>>,
    /// By number over all kinds.
    at: HashMap<u64, Vec<Fault>>,
    every: HashMap<Call, Maker>,
    /// From this call on, the store is dead.
    dead_from: Option<u64>,
    counts: HashMap<Call, u64>,
    log: Vec<(Call, String)>,
    running: usize,
    most_at_once: usize,
}

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

fn lock(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The faults of one call; counts it as running until dropped.
struct Running {
    script: Arc<Mutex<Script>>,
    faults: Vec<Fault>,
}

impl Drop for Running {
    fn drop(&mut self) {
        lock(&self.script).running -= 1;
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

fn begin(shared: &Arc<Mutex<Script>>, call: Call, about: &str) -> Result<Running> {
    let mut guard = lock(shared);
    let script = &mut *guard;
    script.log.push((call, about.to_owned()));
    let total = script.log.len() as u64;
    let number = script.counts.entry(call).or_default();
    *number += 1;
    let number = *number;
    if script.dead_from.is_some_and(|from| total >= from) {
        return Err(Error::new(
            code::storage::UNREACHABLE,
            format!("{call:?} {about}: call {total} after the end"),
        ));
    }
    let mut faults = script.on.remove(&(call, number)).unwrap_or_default();
    faults.extend(script.at.remove(&total).unwrap_or_default());
    faults.extend(script.every.get(&call).map(|make| make()));
    script.running += 1;
    script.most_at_once = script.most_at_once.max(script.running);
    Ok(Running {
        script: shared.clone(),
        faults,
    })
}

impl Running {
    /// Delays, holds and failures before the work.
    async fn before(&mut self) -> Result<()> {
        let mut later = Vec::new();
        for fault in std::mem::take(&mut self.faults) {
            match fault {
                Fault::FailBefore(error) => return Err(error),
                Fault::NoSpace => return Err(Error::new(code::storage::FULL, "no space left by script")),
                Fault::Delay(time) => tokio::time::sleep(time).await,
                Fault::HoldBefore(gate) => gate.pass().await,
                other => later.push(other),
            }
        }
        self.faults = later;
        Ok(())
    }

    async fn after<T>(mut self, result: Result<T>) -> Result<T> {
        let value = result?;
        for fault in std::mem::take(&mut self.faults) {
            match fault {
                Fault::FailAfter(error) => return Err(error),
                Fault::HoldAfter(gate) => gate.pass().await,
                _ => {}
            }
        }
        Ok(value)
    }

    fn wants_removal(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault, Fault::RemoveFirst))
    }

    fn answers_exists(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault, Fault::AnswerExists))
    }

    fn damage(&self, mut body: Bytes) -> Bytes {
        for fault in &self.faults {
            match fault {
                Fault::ShortRead(missing) => body.truncate(body.len().saturating_sub(*missing)),
                Fault::FlipByte(offset) if !body.is_empty() => {
                    let mut bytes = body.to_vec();
                    let length = bytes.len();
                    if let Some(byte) = bytes.get_mut(offset % length) {
                        *byte ^= 0x20;
                    }
                    body = bytes.into();
                }
                _ => {}
            }
        }
        body
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
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
}
