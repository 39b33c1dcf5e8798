//! Progress: a line that lives on a terminal, and now and then one that stays in a log.

use std::time::{Duration, Instant};

use hardstorage_report::{ByteSize, Event};
use serde_json::Value;

/// The shortest time between two lines in a log.
const SHORTEST: Duration = Duration::from_secs(10);
/// The longest, when there is progress at all.
const LONGEST: Duration = Duration::from_mins(1);
/// In between a line is due when so much more of the whole is done.
const STEP: f64 = 0.05;

/// Decides which progress events a log keeps: none in the first seconds, so that a short command stays short; then one
/// every ten seconds while it goes fast, and one a minute while it goes slowly.
#[derive(Debug, Default)]
pub(super) struct LogPace {
    last: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    name: String,
    at: Instant,
    share: f64,
}

impl LogPace {
    /// Whether this event is one that stays.
    pub(super) fn is_due(&mut self, event: &Event, now: Instant) -> bool {
        let share = share(&event.body).unwrap_or(0.0);
        let due = match &self.last {
            Some(last) if last.name == event.name => {
                let waited = now.duration_since(last.at);
                let moved = share - last.share >= STEP;
                if !(waited >= LONGEST || (waited >= SHORTEST && moved)) {
                    return false;
                }
                true
            }
            // The beginning of this work: nothing can be said yet.
            _ => false,
        };
        self.last = Some(Kept {
            name: event.name.clone(),
            at: now,
            share,
        });
        due
    }
}

fn number(body: &Value, key: &str) -> Option<u64> {
    body.get(key).and_then(Value::as_u64)
}

/// How much of the whole is done, from 0 to 1.
fn share(body: &Value) -> Option<f64> {
    let number = |bytes, things| number(body, bytes).or_else(|| number(body, things));
    let total = number("total_bytes", "total").filter(|total| *total > 0)?;
    number("done_bytes", "done").map(|done| (done as f64 / total as f64).min(1.0))
}

/// What runs, and how far it is.
pub(super) fn live_line(name: &str, body: &Value) -> String {
    format!("{}  {}", name.trim_end_matches(".progress"), how_far(body))
}

/// Bytes or things, rate, time left and reuse on one line.
pub(super) fn how_far(body: &Value) -> String {
    let mut parts = Vec::new();
    if let (Some(done), Some(total)) = (number(body, "done"), number(body, "total")) {
        parts.push(format!("{done} of {total}"));
    }
    let size = |key| number(body, key).map(ByteSize);
    match (size("done_bytes"), size("total_bytes"), share(body)) {
        (Some(done), Some(total), Some(share)) => {
            parts.push(format!("{done} of {total} ({:.0} %)", share * 100.0));
        }
        (Some(done), ..) => parts.push(done.to_string()),
        _ => {}
    }
    if let Some(rate) = size("bytes_per_second") {
        parts.push(format!("{rate}/s"));
    }
    if let Some(eta) = number(body, "eta_seconds") {
        let (hours, minutes, seconds) = (eta / 3600, eta / 60 % 60, eta % 60);
        parts.push(if hours > 0 {
            format!("{hours}:{minutes:02}:{seconds:02} left")
        } else {
            format!("{minutes}:{seconds:02} left")
        });
    }
    if let Some(reuse) = body.get("reuse").and_then(Value::as_f64) {
        parts.push(format!("{:.1} % reused", reuse * 100.0));
    }
    parts.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hardstorage_report::Severity;
    use serde_json::json;

    #[test]
    fn progress_says_how_much_how_fast_how_long() {
        let body = json!({"done_bytes": 1u64 << 30, "total_bytes": 1u64 << 31, "bytes_per_second": 100 << 20,
            "eta_seconds": 75, "reuse": 0.985});
        assert_eq!(
            live_line("backup.progress", &body),
            "backup  1.0 GiB of 2.0 GiB (50 %)  100.0 MiB/s  1:15 left  98.5 % reused"
        );
        let slow = json!({"done_bytes": 5 << 10, "total_bytes": 1u64 << 40, "bytes_per_second": 1000,
            "eta_seconds": 36_061, "reuse": null});
        assert_eq!(
            live_line("restore.progress", &slow),
            "restore  5.0 KiB of 1.0 TiB (0 %)  1000 B/s  10:01:01 left"
        );
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let body =
            json!({"done_bytes": 3 << 20, "total_bytes": null, "bytes_per_second": 1 << 20, "eta_seconds": null});
        assert_eq!(live_line("backup.progress", &body), "backup  3.0 MiB  1.0 MiB/s");
        let things = json!({"stage": "checking", "done": 3, "total": 7});
        assert_eq!(live_line("drill.progress", &things), "drill  3 of 7");
        // An estimate can be too low: what is done is never more than everything.
        let more =
            json!({"done_bytes": 3 << 20, "total_bytes": 2 << 20, "bytes_per_second": 1 << 20, "eta_seconds": 0});
        assert_eq!(
            live_line("backup.progress", &more),
            "backup  3.0 MiB of 2.0 MiB (100 %)  1.0 MiB/s  0:00 left"
        );
    }

    /// The seconds at which events of one run stay in the log; five events come each second.
    fn kept(seconds: u64, share_after: impl Fn(f64) -> f64) -> Vec<u64> {
        let began = Instant::now();
        let mut pace = LogPace::default();
        let ticks = (0..=seconds * 5).map(|tick| tick as f64 / 5.0);
        let due = ticks.filter(|second| {
            let done = (share_after(*second) * 1e9) as u64;
            let event = Event::new(Severity::Info, "backup.progress")
                .body(json!({"done_bytes": done, "total_bytes": 1_000_000_000}));
            pace.is_due(&event, began + Duration::from_secs_f64(*second))
        });
        due.map(|second| second as u64).collect()
    }

    #[test]
    fn a_log_gets_one_line_in_ten_seconds_at_most_and_one_a_minute_at_least() {
        assert_eq!(
            kept(9, |second| second / 9.0),
            [] as [u64; 0],
            "a short run says nothing"
        );
        assert_eq!(kept(40, |second| second / 40.0), [10, 20, 30, 40]);
        // A whole day: the clock alone decides.
        let slow = kept(600, |second| second / 86_400.0);
        assert_eq!(slow, [60, 120, 180, 240, 300, 360, 420, 480, 540, 600]);
        // Between the two it is each twentieth.
        assert_eq!(kept(101, |second| second / 400.0), [20, 40, 60, 80, 100]);
    }

    #[test]
    fn each_work_of_a_run_has_its_own_pace() {
        let began = Instant::now();
        let mut pace = LogPace::default();
        let event =
            |name, done: u64| Event::new(Severity::Info, name).body(json!({"done_bytes": done, "total_bytes": 100}));
        let after = |seconds| began + Duration::from_secs(seconds);
        assert!(!pace.is_due(&event("verify.progress", 1), after(0)));
        assert!(pace.is_due(&event("verify.progress", 99), after(20)));
        assert!(!pace.is_due(&event("restore.progress", 1), after(31)));
        assert!(pace.is_due(&event("restore.progress", 50), after(41)));
    }
}
