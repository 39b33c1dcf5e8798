//! How a backup is read, and what suits which store.

use std::sync::Arc;

use hardstorage_report::BackupId;
use hardstorage_storage::DynStore;
use tokio_util::sync::CancellationToken;

use super::present::PresentFiles;
use super::transfer::Progress;
use super::window::WindowLimits;

/// How a run reads.
#[derive(Clone)]
pub struct ReadOptions {
    /// Threads that decode and write.
    pub jobs: usize,
    /// Bytes read from the store and not yet decoded, at most.
    pub in_flight: u64,
    /// The largest read.
    pub read_size: u64,
    /// How much is planned at a time, for large files and for small ones.
    pub windows: (WindowLimits, WindowLimits),
    /// The backup that is read, for the records of damage.
    pub backup_id: Option<BackupId>,
    /// Ends the run early.
    pub cancel: CancellationToken,
    /// Is told how much was written, or is there already.
    pub progress: Option<Progress>,
    /// What is there already of the files: pages of them that are equal are neither fetched nor written.
    pub present: Option<Arc<dyn PresentFiles>>,
}

impl ReadOptions {
    /// What suits a store: behind a network more and larger reads are on their way at the same time.
    pub fn for_store(store: &DynStore) -> ReadOptions {
        let local = ReadOptions::default();
        if store.caps().remote {
            ReadOptions {
                in_flight: 32 << 20,
                read_size: 8 << 20,
                ..local
            }
        } else {
            local
        }
    }
}

impl Default for ReadOptions {
    /// What suits a local store, where more in flight was not faster.
    fn default() -> Self {
        ReadOptions {
            jobs: std::thread::available_parallelism().map_or(2, usize::from),
            in_flight: 16 << 20,
            read_size: 4 << 20,
            windows: (WindowLimits::LARGE, WindowLimits::SMALL),
            backup_id: None,
            cancel: CancellationToken::new(),
            progress: None,
            present: None,
        }
    }
}

impl std::fmt::Debug for ReadOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadOptions")
            .field("jobs", &self.jobs)
            .field("in_flight", &self.in_flight)
            .field("read_size", &self.read_size)
            .finish_non_exhaustive()
    }
}
