//! Progress as events: bytes, rate, time left, and for a backup what it takes over; at most five a second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hardstorage_report::{Event, EventSink, Severity};
use serde_json::{Value, json};

/// The shortest time between two events.
const PACE: Duration = Duration::from_millis(200);

/// Before that the first bytes say nothing of the rate that follows.
const SETTLED: Duration = Duration::from_secs(1);

/// Tells the share of what was read so far that was taken over from earlier.
type Reuse = Box<dyn Fn() -> Option<f64> + Send + Sync>;

/// Measures one run; may be told from many threads.
pub(crate) struct ProgressMeter {
    name: &'static str,
    sink: Arc<dyn EventSink>,
    total: Option<u64>,
    reuse: Option<Reuse>,
    stage: Option<&'static str>,
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
            reuse: None,
            stage: None,
            began: Instant::now(),
            done: AtomicU64::new(0),
            last: Mutex::new(None),
        }
    }

    /// Adds `reuse` to each event; `null` while it cannot be told.
    #[must_use]
    pub(crate) fn with_reuse(mut self, reuse: impl Fn() -> Option<f64> + Send + Sync + 'static) -> ProgressMeter {
        self.reuse = Some(Box::new(reuse));
        self
    }

    /// Adds `stage` to each event: which of several parts of the work this is.
    #[must_use]
    pub(crate) fn in_stage(mut self, stage: &'static str) -> ProgressMeter {
        self.stage = Some(stage);
        self
    }

    /// So many more bytes are done. Cheap when it is too early for an event.
    pub(crate) fn add(&self, bytes: u64) {
        self.add_at(bytes, Instant::now());
    }

    fn add_at(&self, bytes: u64, now: Instant) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|last| now.duration_since(last) < PACE) {
                return;
            }
            *last = Some(now);
        }
        let mut body = facts(done, self.total, now.duration_since(self.began));
        if let (Some(reuse), Value::Object(body)) = (&self.reuse, &mut body) {
            body.insert("reuse".to_owned(), json!(reuse()));
        }
        if let (Some(stage), Value::Object(body)) = (self.stage, &mut body) {
            body.insert("stage".to_owned(), json!(stage));
        }
        self.sink.emit(Event::new(Severity::Info, self.name).body(body));
    }
}

/// What can be said after so many bytes and so much time.
pub(crate) fn facts(done: u64, total: Option<u64>, elapsed: Duration) -> Value {
    let seconds = elapsed.as_secs_f64();
    let rate = if seconds > 0.0 {
        (done as f64 / seconds) as u64
    } else {
        0
    };
    let left = total.map(|total| total.saturating_sub(done));
    json!({
        "done_bytes": done,
        "total_bytes": total,
        "bytes_per_second": rate,
        "eta_seconds": left.filter(|_| rate > 0 && elapsed >= SETTLED).map(|left| left / rate),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<Event>>);

    impl EventSink for Kept {
        fn emit(&self, event: Event) {
            self.0.lock().unwrap().push(event);
        }
    }

    #[test]
    fn rate_and_time_left_follow_from_bytes_and_time() {
        let after = |done, total, seconds| facts(done, total, Duration::from_secs(seconds));
        assert_eq!(
            after(1000, Some(4000), 10),
            json!({"done_bytes": 1000, "total_bytes": 4000, "bytes_per_second": 100, "eta_seconds": 30})
        );
        // At the very beginning, and without a total, there is no time left to tell.
        assert_eq!(after(1000, Some(4000), 0)["eta_seconds"], Value::Null);
        let early = facts(1, Some(4000), Duration::from_millis(100));
        assert_eq!(
            (&early["bytes_per_second"], &early["eta_seconds"]),
            (&json!(10), &Value::Null)
        );
        assert_eq!(after(1000, None, 10)["eta_seconds"], Value::Null);
        // The server's estimate was too low.
        assert_eq!(after(5000, Some(4000), 10)["eta_seconds"], 0);
    }

    #[test]
    fn five_events_a_second_and_no_byte_is_forgotten() {
        let sink = Arc::new(Kept::default());
        let meter = ProgressMeter::new("restore.progress", sink.clone(), Some(1 << 20));
        let began = meter.began;
        for step in 0..1000 {
            meter.add_at(1, began + Duration::from_millis(step));
        }
        let events = sink.0.lock().unwrap();
        let done: Vec<u64> = events
            .iter()
            .map(|event| event.body["done_bytes"].as_u64().unwrap())
            .collect();
        assert_eq!(done, [1, 201, 401, 601, 801]);
        assert!(events.iter().all(|event| event.body.get("reuse").is_none()));
    }

    #[test]
    fn reuse_is_asked_for_anew_at_each_event() {
        let sink = Arc::new(Kept::default());
        let known = Arc::new(Mutex::new(None));
        let meter = ProgressMeter::new("backup.progress", sink.clone(), None).with_reuse({
            let known = Arc::clone(&known);
            move || *known.lock().unwrap()
        });
        meter.add(1);
        *known.lock().unwrap() = Some(0.75);
        meter.add_at(1, meter.began + Duration::from_secs(1));
        let reuse: Vec<Value> = sink
            .0
            .lock()
            .unwrap()
            .iter()
            .map(|event| event.body["reuse"].clone())
            .collect();
        assert_eq!(reuse, [Value::Null, json!(0.75)]);
    }
}
