//! What was heard last, by object: a cache. Everything in it is asked again after a restart, and nothing is decided by what
//! is not in it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::report::ServedCatalog;

/// What is remembered of one object.
#[derive(Debug, Clone, Default)]
pub struct Remembered {
    /// When its stream answered last, or was asked first.
    pub heard: Option<Timestamp>,
    /// Its catalogue.
    pub catalog: Option<ServedCatalog>,
    /// The catalogue that the Backup objects show.
    pub shown: Option<String>,
    /// When its status was written last.
    pub written: Option<Timestamp>,
    /// Since when it has been let go: from then on its time runs. The one before, while nobody was there to try, does not
    /// count.
    pub going: Option<Timestamp>,
}

/// By UID.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<String, Remembered>>);

impl Memory {
    /// What is remembered.
    pub fn get(&self, uid: &str) -> Remembered {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(uid).cloned().unwrap_or_default()
    }

    /// Remembers.
    pub fn put(&self, uid: &str, remembered: Remembered) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(uid.to_owned(), remembered);
    }

    /// Forgets one that is gone.
    pub fn forget(&self, uid: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(uid);
    }
}
