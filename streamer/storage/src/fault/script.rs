//! The script of a [`super::FaultStore`]: which call meets which fault, and what a fault does to a call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hardstorage_report::{Error, Result, code};
use tokio::sync::Semaphore;

/// The kinds of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the method of its name")]
pub enum Call {
    PutNew,
    UploadNew,
    UploadWrite,
    UploadFinish,
    UploadAbort,
    GrowNew,
    Append,
    Get,
    GetRange,
    Head,
    List,
    Delete,
    Sync,
    Confirm,
    Sweep,
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

pub(super) type Maker = Box<dyn Fn() -> Fault + Send>;

#[derive(Default)]
pub(super) struct Script {
    /// By kind and number.
    pub(super) on: HashMap<(Call, u64), Vec<Fault>>,
    /// By number over all kinds.
    pub(super) at: HashMap<u64, Vec<Fault>>,
    pub(super) every: HashMap<Call, Maker>,
    /// From this call on, the store is dead.
    pub(super) dead_from: Option<u64>,
    pub(super) counts: HashMap<Call, u64>,
    pub(super) log: Vec<(Call, String)>,
    pub(super) running: usize,
    pub(super) most_at_once: usize,
}

pub(super) fn lock(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The faults of one call; counts it as running until dropped.
pub(super) struct Running {
    pub(super) script: Arc<Mutex<Script>>,
    pub(super) faults: Vec<Fault>,
}

impl Drop for Running {
    fn drop(&mut self) {
        lock(&self.script).running -= 1;
    }
}

pub(super) fn begin(shared: &Arc<Mutex<Script>>, call: Call, about: &str) -> Result<Running> {
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
    pub(super) async fn before(&mut self) -> Result<()> {
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

    pub(super) async fn after<T>(mut self, result: Result<T>) -> Result<T> {
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

    pub(super) fn wants_removal(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault, Fault::RemoveFirst))
    }

    pub(super) fn answers_exists(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault, Fault::AnswerExists))
    }

    pub(super) fn damage(&self, mut body: Bytes) -> Bytes {
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
