//! Progress as events: bytes, rate and time left, at most five a second.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use hardstorage_report::{Event, EventSink, Severity};
use serde_json::json;

/// The shortest time between two events.
const PACE: Duration = Duration::from_millis(200);

/// Measures one run.
pub struct ProgressMeter<'a> {
    name: &'a str,
    sink: &'a dyn EventSink,
    total: Option<u64>,
    began: Instant,
    last: Mutex<Option<Instant>>,
}

impl<'a> ProgressMeter<'a> {
    /// Begins. `name` ends with `.progress`.
    pub fn new(name: &'a str, sink: &'a dyn EventSink, total: Option<u64>) -> ProgressMeter<'a> {
        ProgressMeter {
            name,
            sink,
            total,
            began: Instant::now(),
            last: Mutex::new(None),
        }
    }

    /// Tells how many bytes are done. Cheap when it is too early for an event.
    pub fn done(&self, bytes: u64) {
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
            (bytes as f64 / seconds) as u64
        } else {
            0
        };
        let left = self.total.map(|total| total.saturating_sub(bytes));
        let eta = left.filter(|_| rate > 0).map(|left| left / rate);
        self.sink.emit(Event::new(Severity::Info, self.name).body(json!({
            "done_bytes": bytes,
            "total_bytes": self.total,
            "bytes_per_second": rate,
            "eta_seconds": eta,
        })));
    }
}
