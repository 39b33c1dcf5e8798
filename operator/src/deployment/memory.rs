//! What was heard last, by object: a cache. Everything in it is asked again after a restart, and nothing is decided by what
//! is not in it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::steady::Steady;
use super::upgrade::Seen;
use crate::report::ServedCatalog;

/// What is remembered of one object.
#[derive(Debug, Clone, Default)]
pub struct Remembered {
    /// When its stream answered last, or was asked first.
    pub heard: Option<Timestamp>,
    /// Its catalogue.
    pub catalog: Option<Arc<ServedCatalog>>,
    /// The catalogue that the Backup objects show.
    pub shown: Option<String>,
    /// When its status was written last.
    pub written: Option<Timestamp>,
    /// How it was when everything was looked at, while it is well.
    pub steady: Option<Steady>,
    /// Since when it has been let go: from then on its time runs. The one before, while nobody was there to try, does not
    /// count.
    pub going: Option<Timestamp>,
}

/// So long all reconciles judge by the same look at all streams. During an upgrade each of a thousand would else list a
/// thousand. It is whole, so that nobody is counted as both waiting and gone.
const LOOK: Duration = Duration::from_secs(5);

/// By UID, with how often each was woken; and the last look at all streams.
#[derive(Debug, Default)]
pub struct Memory {
    objects: Mutex<HashMap<String, Remembered>>,
    woken: Mutex<HashMap<String, u64>>,
    streams: Mutex<Option<(Timestamp, Vec<Seen>)>>,
}

impl Memory {
    /// What is remembered.
    pub fn get(&self, uid: &str) -> Remembered {
        let all = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(uid).cloned().unwrap_or_default()
    }

    /// Remembers.
    pub fn put(&self, uid: &str, remembered: Remembered) {
        let mut all = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(uid.to_owned(), remembered);
    }

    /// Something of it, or around it, has changed.
    pub fn wake(&self, uid: &str) {
        // Of what was never looked at nothing is known that could be outdated.
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        if !objects.contains_key(uid) {
            return;
        }
        let mut all = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        *all.entry(uid.to_owned()).or_default() += 1;
    }

    /// How often that was so.
    pub fn woken(&self, uid: &str) -> u64 {
        let all = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(uid).copied().unwrap_or_default()
    }

    /// All streams, when they were looked at a moment ago.
    pub fn streams(&self, now: Timestamp) -> Option<Vec<Seen>> {
        let last = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, seen) = last.as_ref()?;
        let is_young = Duration::try_from(now.duration_since(*at)).is_ok_and(|age| age < LOOK);
        is_young.then(|| seen.clone())
    }

    /// Remembers a look at all streams.
    pub fn put_streams(&self, now: Timestamp, seen: Vec<Seen>) {
        *self.streams.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, seen));
    }

    /// Forgets one that is gone.
    pub fn forget(&self, uid: &str) {
        let mut all = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(uid);
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;

    #[test]
    fn a_look_at_all_streams_serves_for_a_moment() {
        let memory = Memory::default();
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        assert_eq!(memory.streams(at(0)), None);
        memory.put_streams(at(0), vec![]);
        assert_eq!(memory.streams(at(4)), Some(vec![]));
        assert_eq!(memory.streams(at(5)), None);
        assert_eq!(memory.streams(at(-1)), None, "a clock that was set back");
    }
}
