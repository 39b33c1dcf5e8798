//! What became of the pages so far: told while a backup is being written, and cheap enough to be asked for at any time.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Totals;

/// Pages that the packer has seen. It comes behind the caller by what is in flight.
#[derive(Debug, Default)]
pub struct PageCount {
    new: AtomicU64,
    reused: AtomicU64,
}

impl PageCount {
    /// The share of the pages other than zeros that was taken over; none before there is such a page.
    pub fn reuse(&self) -> Option<f64> {
        let reused = self.reused.load(Ordering::Relaxed);
        let pages = self.new.load(Ordering::Relaxed) + reused;
        (pages > 0).then(|| reused as f64 / pages as f64)
    }

    pub(super) fn set(&self, totals: &Totals) {
        self.new.store(totals.new_pages, Ordering::Relaxed);
        self.reused.store(totals.reused_pages, Ordering::Relaxed);
    }
}
