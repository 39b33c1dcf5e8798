//! Limits: so many calls at a time, so many bytes a second.
//!
//! A call holds its permit only while it runs, never across two calls of the same caller, so that a task with an open
//! upload can still read. Bytes are paid in debt: a large body goes at once and the next one waits, which keeps the
//! rate without cutting bodies into pieces. Reads and writes share one rate: it protects the network between.

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hardstorage_report::{Error, Result, code};
use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::{
    Caps, Created, DynStore, Growing, Heard, Key, ListRequest, Listing, ObjectMeta, Store, SweepRequest, Swept, Upload,
};

/// A store behind limits.
#[derive(Debug)]
pub struct Throttle {
    inner: DynStore,
    permits: Semaphore,
    rate: Option<Arc<Rate>>,
}

#[derive(Debug)]
struct Rate {
    bytes_per_second: NonZeroU64,
    /// When everything that was let through so far will have been paid.
    paid_until: Mutex<Instant>,
}

/// Time that may be saved up while nothing goes through.
const BURST: Duration = Duration::from_millis(250);

impl Rate {
    /// Waits until earlier bytes are paid, then takes these on credit.
    async fn pay(&self, bytes: u64) {
        tokio::time::sleep_until(self.book(bytes, Instant::now())).await;
    }

    /// Takes bytes on credit; the time from which they may go.
    fn book(&self, bytes: u64, now: Instant) -> Instant {
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let start = (*paid_until).max(now.checked_sub(BURST).unwrap_or(now));
        *paid_until = start + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second.get() as f64);
        start
    }
}

impl Throttle {
    /// At most `concurrency` calls at a time, and at most `rate` bytes a second.
    pub fn new(inner: DynStore, concurrency: usize, rate: Option<NonZeroU64>) -> Throttle {
        Throttle {
            inner,
            permits: Semaphore::new(concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            rate: rate.map(|bytes_per_second| {
                Arc::new(Rate {
                    bytes_per_second,
                    paid_until: Mutex::new(Instant::now()),
                })
            }),
        }
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>> {
        self.permits
            .acquire()
            .await
            .map_err(|closed| Error::new(code::storage::IO, "the store is closed").source(closed))
    }

    async fn pay(&self, bytes: u64) {
        if let Some(rate) = &self.rate {
            rate.pay(bytes).await;
        }
    }
}

#[async_trait]
impl Store for Throttle {
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<Created> {
        let _permit = self.permit().await?;
        self.pay(body.len() as u64).await;
        self.inner.put_new(key, body).await
    }

    async fn put_durable(&self, key: &Key, body: Bytes) -> Result<Created> {
        let _permit = self.permit().await?;
        self.pay(body.len() as u64).await;
        self.inner.put_durable(key, body).await
    }

    async fn upload_new(&self, key: &Key) -> Result<Box<dyn Upload>> {
        let _permit = self.permit().await?;
        let inner = self.inner.upload_new(key).await?;
        Ok(match &self.rate {
            Some(rate) => Box::new(ThrottledUpload {
                inner,
                rate: rate.clone(),
            }),
            None => inner,
        })
    }

    async fn grow_new(&self, key: &Key, first: Bytes) -> Result<Option<Box<dyn Growing>>> {
        let _permit = self.permit().await?;
        let length = first.len() as u64;
        let Some(inner) = self.inner.grow_new(key, first).await? else {
            return Ok(None);
        };
        self.pay(length).await;
        Ok(Some(match &self.rate {
            Some(rate) => Box::new(ThrottledGrowing {
                inner,
                rate: rate.clone(),
            }),
            None => inner,
        }))
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        let _permit = self.permit().await?;
        let body = self.inner.get(key).await?;
        // The length is known only now; the next call waits for it.
        self.pay(body.as_ref().map_or(0, |body| body.len() as u64)).await;
        Ok(body)
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        let _permit = self.permit().await?;
        self.pay(range.end.saturating_sub(range.start)).await;
        self.inner.get_range(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectMeta>> {
        let _permit = self.permit().await?;
        self.inner.head(key).await
    }

    async fn list(&self, request: &ListRequest) -> Result<Listing> {
        let _permit = self.permit().await?;
        self.inner.list(request).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        let _permit = self.permit().await?;
        self.inner.delete(key).await
    }

    async fn sync(&self) -> Result<()> {
        let _permit = self.permit().await?;
        self.inner.sync().await
    }

    async fn confirm(&self, keys: &[Key]) -> Result<()> {
        let _permit = self.permit().await?;
        self.inner.confirm(keys).await
    }

    async fn sweep(&self, request: &SweepRequest) -> Result<Swept> {
        let _permit = self.permit().await?;
        self.inner.sweep(request).await
    }

    async fn clock(&self) -> Result<Timestamp> {
        let _permit = self.permit().await?;
        self.inner.clock().await
    }

    async fn clock_lately(&self, age: Duration) -> Result<Heard> {
        let _permit = self.permit().await?;
        self.inner.clock_lately(age).await
    }

    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

struct ThrottledUpload {
    inner: Box<dyn Upload>,
    rate: Arc<Rate>,
}

#[async_trait]
impl Upload for ThrottledUpload {
    async fn write(&mut self, part: Bytes) -> Result<()> {
        self.rate.pay(part.len() as u64).await;
        self.inner.write(part).await
    }

    async fn finish(self: Box<Self>) -> Result<Created> {
        self.inner.finish().await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.inner.abort().await
    }
}

/// Takes no permit: somebody waits for each of these, one at a time.
#[derive(Debug)]
struct ThrottledGrowing {
    inner: Box<dyn Growing>,
    rate: Arc<Rate>,
}

#[async_trait]
impl Growing for ThrottledGrowing {
    async fn append(&mut self, bytes: Bytes) -> Result<()> {
        self.rate.pay(bytes.len() as u64).await;
        self.inner.append(bytes).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use crate::{Call, Fault, FaultStore, Gate, MemoryStore};

    #[test]
    fn bytes_per_second() {
        let now = Instant::now();
        let rate = Rate {
            bytes_per_second: NonZeroU64::new(1000).unwrap(),
            paid_until: Mutex::new(now),
        };
        let second = Duration::from_secs(1);
        assert_eq!(rate.book(1000, now), now);
        assert_eq!(rate.book(500, now), now + second);
        assert_eq!(rate.book(0, now), now + second * 3 / 2);
        // What was not used is not saved up, but for a short burst.
        let later = now + second * 60;
        assert_eq!(rate.book(1000, later), later - BURST);
        assert_eq!(rate.book(1, later), later - BURST + second);
    }

    #[tokio::test]
    async fn reads_and_writes_are_paid() {
        let store = Throttle::new(Arc::new(MemoryStore::new()), 4, NonZeroU64::new(1 << 30));
        let due = || *store.rate.as_ref().unwrap().paid_until.lock().unwrap();
        let key = Key::new("a").unwrap();
        let mut before = due();
        let mut grown = || {
            let now = due();
            let grown = now > before;
            before = now;
            grown
        };
        store.put_new(&key, Bytes::from_static(b"0123456789")).await.unwrap();
        assert!(grown());
        store.get(&key).await.unwrap();
        assert!(grown());
        store.get_range(&key, 0..10).await.unwrap();
        assert!(grown());
        let mut upload = store.upload_new(&Key::new("b").unwrap()).await.unwrap();
        upload.write(Bytes::from_static(b"0123456789")).await.unwrap();
        assert!(grown());
        upload.finish().await.unwrap();
        assert!(!grown());
    }

    #[tokio::test]
    async fn calls_at_a_time() {
        let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
        let gate = Gate::new();
        let held = gate.clone();
        faults.every(Call::Head, move || Fault::HoldBefore(held.clone()));
        let store = Arc::new(Throttle::new(faults.clone(), 3, None));
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..9 {
            let store = store.clone();
            calls.spawn(async move { store.head(&Key::new(format!("k{n}")).unwrap()).await.unwrap() });
        }
        for done in 0..9 {
            gate.reached().await;
            if done == 2 {
                assert_eq!(faults.count(Call::Head), 3);
            }
            if done >= 2 {
                gate.open();
            }
        }
        gate.open();
        gate.open();
        calls.join_all().await;
        assert_eq!(faults.most_at_once(), 3);
    }
}
