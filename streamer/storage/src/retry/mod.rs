//! The one retry layer. Everything below it tries once and says by [`Error::retry_advice`] whether again may help.
//!
//! It stands *above* `put_new`, because only there are the bytes at hand: when the answer to a first try was lost and
//! the second says "exists", the object is read back. Equal bytes mean that the first try did its work; any other
//! bytes mean that another writer came first. Without that, a create-only store plus a retry turns one lost packet
//! into "another writer owns this name".
//!
//! Uploads are not repeated from here: their parts are gone. The backend retries each part and its finish (with the same
//! [`RetryPolicy`]); an error out of `finish` leaves the outcome open, and the caller uploads anew or looks.

use std::ops::Range;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use hardstorage_report::{Error, Result, Retry, code};
use jiff::Timestamp;

use crate::{
    Caps, Created, DynStore, Growing, Heard, Key, ListRequest, Listing, ObjectMeta, Store, SweepRequest, Swept, Upload,
};

/// How often and how long to try.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// Tries in all; 1 never repeats.
    pub attempts: u32,
    /// The longest pause after the first failure; doubles with each.
    pub base: Duration,
    /// No pause is longer than this.
    pub cap: Duration,
    /// No try starts later than this after the first.
    pub total: Duration,
    /// A number in `0.0..1.0` that each pause is multiplied with (full jitter), so that many clients do not come back
    /// at once.
    pub jitter: fn() -> f64,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            attempts: 8,
            base: Duration::from_millis(100),
            cap: Duration::from_secs(10),
            total: Duration::from_secs(90),
            jitter: rand::random::<f64>,
        }
    }
}

/// A store that is asked to wait is given more time than one that merely dropped a connection.
const LATER_FACTOR: u32 = 5;

impl RetryPolicy {
    /// Tries once.
    pub fn never() -> RetryPolicy {
        RetryPolicy {
            attempts: 1,
            ..RetryPolicy::default()
        }
    }

    /// How long to wait after so many tries, or `None` when that was the last.
    fn pause(&self, made: u32, advice: Retry, elapsed: Duration) -> Option<Duration> {
        let factor = match advice {
            Retry::Never => return None,
            Retry::Now => 1,
            Retry::Later => LATER_FACTOR,
        };
        let doubled = 1u32.checked_shl(made.saturating_sub(1)).unwrap_or(u32::MAX);
        let longest = self.base.saturating_mul(factor).saturating_mul(doubled).min(self.cap);
        let pause = longest.mul_f64((self.jitter)().clamp(0.0, 1.0));
        (made < self.attempts && elapsed.saturating_add(pause) <= self.total).then_some(pause)
    }

    pub(crate) fn begin(&self) -> Tries<'_> {
        Tries {
            policy: self,
            made: 0,
            start: Instant::now(),
        }
    }
}

/// The tries of one call.
pub(crate) struct Tries<'a> {
    policy: &'a RetryPolicy,
    made: u32,
    start: Instant,
}

impl Tries<'_> {
    /// Waits before the next try, or gives the error back when there is none.
    pub(crate) async fn again(&mut self, error: Error) -> Result<()> {
        self.made += 1;
        match self.policy.pause(self.made, error.retry_advice(), self.start.elapsed()) {
            None => Err(self.final_word(error)),
            Some(pause) => {
                tracing::debug!(made = self.made, pause_ms = pause.as_millis() as u64, %error, "trying again after a pause");
                tokio::time::sleep(pause).await;
                Ok(())
            }
        }
    }

    fn final_word(&self, error: Error) -> Error {
        if self.made > 1 {
            error.context(format_args!("after {} tries", self.made))
        } else {
            error
        }
    }
}

macro_rules! retry {
    ($policy:expr, $call:expr) => {{
        let mut tries = $policy.begin();
        loop {
            match $call.await {
                Ok(value) => break Ok(value),
                Err(error) => tries.again(error).await?,
            }
        }
    }};
}

/// A store whose calls are tried again.
#[derive(Debug)]
pub struct Retrying {
    inner: DynStore,
    policy: RetryPolicy,
}

impl Retrying {
    /// Wraps a store.
    pub fn new(inner: DynStore, policy: RetryPolicy) -> Retrying {
        Retrying { inner, policy }
    }

    async fn put(&self, key: &Key, body: Bytes, durable: bool) -> Result<Created> {
        let mut tries = self.policy.begin();
        let mut answer_lost = false;
        loop {
            let put = if durable {
                self.inner.put_durable(key, body.clone())
            } else {
                self.inner.put_new(key, body.clone())
            };
            let error = match put.await {
                Ok(Created::Exists) if answer_lost => match self.inner.get(key).await {
                    Ok(Some(there)) if there == body => return Ok(Created::Created),
                    Ok(Some(_)) => return Ok(Created::Exists),
                    // Removed in between: neither ours nor another's.
                    Ok(None) => Error::new(code::storage::IO, format!("write {key}: it was there, and is gone"))
                        .retry(Retry::Now),
                    Err(error) => error.context(format_args!("compare {key} after a lost answer")),
                },
                Ok(created) => return Ok(created),
                Err(error) => error,
            };
            answer_lost = true;
            tries.again(error).await?;
        }
    }
}

#[async_trait]
impl Store for Retrying {
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<Created> {
        self.put(key, body, false).await
    }

    async fn put_durable(&self, key: &Key, body: Bytes) -> Result<Created> {
        self.put(key, body, true).await
    }

    async fn upload_new(&self, key: &Key) -> Result<Box<dyn Upload>> {
        retry!(self.policy, self.inner.upload_new(key))
    }

    /// Not repeated, nor are its appends: nobody knows what a first try has left under the name or behind the end, and the
    /// caller can begin another object.
    async fn grow_new(&self, key: &Key, first: Bytes) -> Result<Option<Box<dyn Growing>>> {
        self.inner.grow_new(key, first).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        retry!(self.policy, self.inner.get(key))
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        retry!(self.policy, self.inner.get_range(key, range.clone()))
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectMeta>> {
        retry!(self.policy, self.inner.head(key))
    }

    async fn list(&self, request: &ListRequest) -> Result<Listing> {
        retry!(self.policy, self.inner.list(request))
    }

    /// After a lost answer, "not there" counts as removed by us.
    async fn delete(&self, key: &Key) -> Result<bool> {
        let mut tries = self.policy.begin();
        let mut answer_lost = false;
        loop {
            match self.inner.delete(key).await {
                Ok(removed) => return Ok(removed || answer_lost),
                Err(error) => tries.again(error).await?,
            }
            answer_lost = true;
        }
    }

    async fn sync(&self) -> Result<()> {
        retry!(self.policy, self.inner.sync())
    }

    async fn confirm(&self, keys: &[Key]) -> Result<()> {
        retry!(self.policy, self.inner.confirm(keys))
    }

    /// What a try that failed had removed already is not counted.
    async fn sweep(&self, request: &SweepRequest) -> Result<Swept> {
        retry!(self.policy, self.inner.sweep(request))
    }

    async fn clock(&self) -> Result<Timestamp> {
        retry!(self.policy, self.inner.clock())
    }

    async fn clock_lately(&self, age: Duration) -> Result<Heard> {
        retry!(self.policy, self.inner.clock_lately(age))
    }

    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

#[cfg(test)]
mod tests;
