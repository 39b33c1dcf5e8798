//! The store of one process of the model: every call takes virtual time, may pause its whole process for days, and may
//! be its last.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hardstorage_report::Result;
use hardstorage_storage::{
    Caps, Created, DynStore, Key, ListRequest, Listing, ObjectMeta, Store, SweepRequest, Swept, Upload,
};
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep_until};

/// A renewal is due after ten minutes and takes a few calls: with no pause longer than this nobody is silent for an hour.
const SHORT: Duration = Duration::from_mins(6);

/// What all processes share: the dice, and how many calls were made.
#[derive(Debug)]
pub(super) struct Dice {
    rng: Mutex<StdRng>,
    start: Instant,
    /// Moments at which somebody wakes, in milliseconds since the start.
    taken: Mutex<BTreeSet<u64>>,
    pub(super) calls: AtomicU64,
    /// From here on nothing pauses and nobody dies.
    pub(super) calm: AtomicBool,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice {
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            start: Instant::now(),
            taken: Mutex::default(),
            calls: AtomicU64::new(0),
            calm: AtomicBool::new(false),
        }
    }

    /// A number below `limit`.
    pub(super) fn below(&self, limit: u64) -> u64 {
        self.rng.lock().unwrap().random_range(0..limit)
    }

    /// True once in so many times.
    pub(super) fn once_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Waits for a moment, or for the first one after it at which nobody else wakes. No two are ever awake at the same
    /// moment, and time goes on only when everybody waits: so a seed tells the whole story.
    pub(super) async fn wait_until(&self, at: Instant) {
        let now = (Instant::now() - self.start).as_millis() as u64;
        let mut moment = (at.saturating_duration_since(self.start).as_millis() as u64).max(now + 1);
        {
            let mut taken = self.taken.lock().unwrap();
            *taken = taken.split_off(&now);
            while !taken.insert(moment) {
                moment += 1;
            }
        }
        sleep_until(self.start + Duration::from_millis(moment)).await;
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

/// One process's way to the store.
#[derive(Debug)]
pub(super) struct ModelStore {
    inner: DynStore,
    dice: Arc<Dice>,
    /// It never stands still and never dies: what it holds for hours must hold.
    steady: bool,
    /// The whole process stands still until then; `None`: it died.
    awake_from: Mutex<Option<Instant>>,
    /// It stood still for so long that others may have taken it for dead.
    slept: AtomicBool,
}

impl ModelStore {
    pub(super) fn new(inner: DynStore, dice: Arc<Dice>) -> ModelStore {
        ModelStore {
            inner,
            steady: dice.once_in(2),
            dice,
            awake_from: Mutex::new(Some(Instant::now())),
            slept: AtomicBool::new(false),
        }
    }

    /// Whether it ever stood still for so long that others may have taken it for dead.
    pub(super) fn slept(&self) -> bool {
        self.slept.load(Ordering::Relaxed)
    }

    /// Before and after every call.
    async fn pass(&self) {
        self.dice.calls.fetch_add(1, Ordering::Relaxed);
        let calm = self.dice.calm.load(Ordering::Relaxed);
        let mut pause = Duration::from_millis(1 + self.dice.below(2000));
        if !calm && !self.steady {
            match self.dice.below(2000) {
                0..2 => *self.awake_from.lock().unwrap() = None,
                2..8 => pause = Duration::from_mins(self.dice.below(3 * 24 * 60)),
                8..40 => pause = Duration::from_mins(self.dice.below(70)),
                _ => {}
            }
        }
        if pause > SHORT {
            self.slept.store(true, Ordering::Relaxed);
        }
        if pause > Duration::from_secs(2) {
            let mut awake_from = self.awake_from.lock().unwrap();
            *awake_from = awake_from.map(|from| from.max(Instant::now() + pause));
        }
        self.dice.wait_until(Instant::now() + pause).await;
        loop {
            let awake_from = *self.awake_from.lock().unwrap();
            match awake_from {
                None => std::future::pending().await,
                Some(from) if from > Instant::now() => self.dice.wait_until(from).await,
                Some(_) => break,
            }
        }
    }

    async fn around<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.pass().await;
        let answer = call.await;
        self.pass().await;
        answer
    }
}

#[async_trait]
impl Store for ModelStore {
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<Created> {
        self.around(self.inner.put_new(key, body)).await
    }

    async fn upload_new(&self, key: &Key) -> Result<Box<dyn Upload>> {
        self.around(self.inner.upload_new(key)).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.around(self.inner.get(key)).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        self.around(self.inner.get_range(key, range)).await
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectMeta>> {
        self.around(self.inner.head(key)).await
    }

    async fn list(&self, request: &ListRequest) -> Result<Listing> {
        self.around(self.inner.list(request)).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.around(self.inner.delete(key)).await
    }

    async fn sync(&self) -> Result<()> {
        self.around(self.inner.sync()).await
    }

    async fn confirm(&self, keys: &[Key]) -> Result<()> {
        self.around(self.inner.confirm(keys)).await
    }

    async fn sweep(&self, request: &SweepRequest) -> Result<Swept> {
        self.around(self.inner.sweep(request)).await
    }

    async fn clock(&self) -> Result<Timestamp> {
        self.around(self.inner.clock()).await
    }

    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}
