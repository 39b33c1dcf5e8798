//! Progress as events: bytes, rate and time left, at most five a second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hardstorage_report::{Event, EventSink, Severity};
use serde_json::json;

/// The shortest time between two events.
const PACE: Duration = Duration::from_millis(200);

/// Measures one run; may be told from many threads.
pub(crate) struct ProgressMeter {
    name: &'static str,
    sink: Arc<dyn EventSink>,
    total: Option<u64>,
    began: Instant,
    done: AtomicU64,
    last: Mutex<Option<Instant>>,
}

impl ProgressMeter {
    /// Begins. `name` ends with `.progress`.
    pub(crate) fn new(name: &'static str, sink: Arc<dyn EventSink>, total: Option<u64>) -> ProgressMeter {
        ProgressMeter {
            name,
            sink,
            total,
            began: Instant::now(),
            done: AtomicU64::new(0),
            last: Mutex::new(None),
        }
    }

    /// So many more bytes are done. Cheap when it is too early for an event.
    pub(crate) fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let now = Instant::now();
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|last| now.duration_since(last) < PACE) {
                return;
            }
            *last = Some(now);
        }
        let seconds = now.duration_since(self.began).as_secs_f64();
        let rate = if seconds > 0.0 {
            (done as f64 / seconds) as u64
        } else {
            0
        };
        let left = self.total.map(|total| total.saturating_sub(done));
        let eta = left.filter(|_| rate > 0).map(|left| left / rate);
        self.sink.emit(Event::new(Severity::Info, self.name).body(json!({
            "done_bytes": done,
            "total_bytes": self.total,
            "bytes_per_second": rate,
            "eta_seconds": eta,
        })));
    }
}
