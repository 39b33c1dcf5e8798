//! What our objects say of themselves, as metrics: for alerts about what no stream can know, such as a key without a copy.
//!
//! Made anew for each scrape from what the controllers have in memory, so that an object that is gone has no series. Only
//! the replica that acts has them. Mirrors are left out: they are many, and each says one thing for ever.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use serde_json::Value;

/// Gives the objects of a kind as they are now, one by one: all of them at once as text take several times what they take as
/// they are.
pub type Look = Arc<dyn Fn(&mut dyn FnMut(&Value)) + Send + Sync>;
type Labels = Vec<(&'static str, String)>;
type Float = Gauge<f64, AtomicU64>;

/// A series of seconds, and where it stands in a status.
#[derive(Clone, Copy)]
struct Series {
    name: &'static str,
    help: &'static str,
    pointers: &'static [&'static str],
}

const TIMES: [Series; 6] = [
    Series {
        name: "last_backup_time",
        help: "When the last backup was made",
        pointers: &["/status/lastBackup/time"],
    },
    Series {
        name: "next_backup_time",
        help: "When the next backup is due",
        pointers: &["/status/nextTime"],
    },
    Series {
        name: "last_drill_time",
        help: "When the last drill ended that could be tried",
        pointers: &["/status/lastDrill/time", "/status/drill/provenTime"],
    },
    Series {
        name: "next_drill_time",
        help: "When the next drill is due",
        pointers: &["/status/drill/nextTime"],
    },
    Series {
        name: "drill_wanted_time",
        help: "Since when drills are wanted",
        pointers: &["/status/drill/since"],
    },
    Series {
        name: "drill_interval",
        help: "Seconds between two drills",
        pointers: &["/status/drill/intervalSeconds"],
    },
];

/// The objects of all kinds that are shown.
#[derive(Clone, Default)]
pub struct Objects(Arc<Mutex<Vec<(&'static str, Look)>>>);

impl Objects {
    /// Shows a kind from now on.
    pub fn show(&self, kind: &'static str, look: Look) {
        // What a panicking thread left is a whole list.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((kind, look));
    }

    /// The series of this moment.
    pub fn registry(&self) -> Registry {
        let conditions = Family::<Labels, Gauge>::default();
        let times = TIMES.map(|series| (series, Family::<Labels, Float>::default()));
        let passed = Family::<Labels, Gauge>::default();
        let kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (kind, look) in kinds {
            look(&mut |object| {
                if object.pointer("/spec/recorded").is_some() || is_past_drill(object) {
                    return;
                }
                let text = |pointer| {
                    object
                        .pointer(pointer)
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                        .to_owned()
                };
                let who: Labels = vec![
                    ("kind", kind.to_owned()),
                    ("namespace", text("/metadata/namespace")),
                    ("name", text("/metadata/name")),
                ];
                let list = object.pointer("/status/conditions").and_then(Value::as_array);
                for condition in list.into_iter().flatten() {
                    let mut labels = who.clone();
                    for key in ["type", "status", "reason"] {
                        labels.push((key, condition[key].as_str().unwrap_or_default().to_owned()));
                    }
                    conditions.get_or_create(&labels).set(1);
                }
                // What is unknown has no series.
                for (series, family) in &times {
                    let mut known = series
                        .pointers
                        .iter()
                        .filter_map(|pointer| seconds(object.pointer(pointer)?));
                    if let Some(value) = known.next() {
                        family.get_or_create(&who).set(value);
                    }
                }
                let proven = ["/status/lastDrill/result", "/status/drill/last/result"].map(text);
                for (word, value) in [("Passed", 1), ("Failed", 0)] {
                    if proven.iter().any(|result| result == word) {
                        passed.get_or_create(&who).set(value);
                    }
                }
            });
        }
        let mut registry = Registry::with_prefix("pg_hardstorage_operator");
        registry.register(
            "object_condition",
            "1 for each condition that an object has",
            conditions,
        );
        for (series, family) in times {
            registry.register_with_unit(series.name, series.help, Unit::Seconds, family);
        }
        registry.register(
            "last_drill_passed",
            "Whether the last drill that could be tried proved that a backup can be restored",
            passed,
        );
        registry
    }
}

/// The Restore of a drill that is over and kept for a look: what it has proven is said by its Deployment and its schedule,
/// until the next one.
fn is_past_drill(object: &Value) -> bool {
    let result = object.pointer("/status/drill/result");
    object.pointer("/spec/destination/drill").is_some() && result.is_some()
}

/// A moment of a status, or a length of time, as seconds.
fn seconds(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        text => Some(text.as_str()?.parse::<Timestamp>().ok()?.as_microsecond() as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]
    use super::*;
    use crate::metrics::Metrics;
    use serde_json::json;

    #[test]
    fn drills_are_shown_of_deployments_and_schedules() {
        let metrics = Metrics::default();
        let show = |kind, status: Value| {
            let object = json!({"metadata": {"namespace": "team", "name": "a"}, "spec": {}, "status": status});
            metrics.show(kind, Arc::new(move |each| each(&object)));
        };
        show(
            "Deployment",
            json!({"lastDrill": {"time": "1970-01-01T00:01:00Z", "result": "Failed"}}),
        );
        show(
            "BackupSchedule",
            json!({"drill": {"intervalSeconds": 3600, "since": "1970-01-01T00:00:30Z", "nextTime": "1970-01-01T01:00:00Z",
                "provenTime": "1970-01-01T00:02:00Z", "last": {"result": "NotRun"}}}),
        );
        let over = json!({"metadata": {"namespace": "team", "name": "a"}, "spec": {"destination": {"drill": {}}},
            "status": {"drill": {"result": "Failed", "time": "1970-01-01T00:01:00Z"},
                "conditions": [{"type": "Stalled", "status": "True", "reason": "VerifyDrillFailed"}]}});
        metrics.show("Restore", Arc::new(move |each| each(&over)));
        let text = metrics.encode();
        let deployment = "{kind=\"Deployment\",namespace=\"team\",name=\"a\"}";
        let schedule = "{kind=\"BackupSchedule\",namespace=\"team\",name=\"a\"}";
        for line in [
            format!("last_drill_passed{deployment} 0"),
            format!("last_drill_time_seconds{deployment} 60.0"),
            format!("last_drill_time_seconds{schedule} 120.0"),
            format!("drill_wanted_time_seconds{schedule} 30.0"),
            format!("drill_interval_seconds{schedule} 3600.0"),
            format!("next_drill_time_seconds{schedule} 3600.0"),
        ] {
            assert!(text.contains(&line), "{line}: {text}");
        }
        assert_eq!(text.matches("last_drill_passed{").count(), 1, "{text}");
        assert!(!text.contains("kind=\"Restore\""), "{text}");
    }

    #[test]
    fn what_is_gone_or_unknown_has_no_series() {
        let all = Arc::new(Mutex::new(vec![
            json!({"metadata": {"namespace": "team", "name": "orders"}, "spec": {}, "status": {
                "conditions": [{"type": "Streaming", "status": "False", "reason": "NotHeard"}],
                "lastBackup": {"time": "1970-01-01T00:01:00Z"}}}),
            json!({"metadata": {"namespace": "team", "name": "new"}, "spec": {}}),
            json!({"metadata": {"namespace": "team", "name": "mirror"}, "spec": {"recorded": {}}, "status": {
                "conditions": [{"type": "Ready", "status": "True", "reason": "Recorded"}]}}),
        ]));
        let metrics = Metrics::default();
        let seen = all.clone();
        metrics.show(
            "Deployment",
            Arc::new(move |each| seen.lock().unwrap().iter().for_each(each)),
        );
        let text = metrics.encode();
        let who = "kind=\"Deployment\",namespace=\"team\",name=\"orders\"";
        let condition = format!("object_condition{{{who},type=\"Streaming\",status=\"False\",reason=\"NotHeard\"}} 1");
        assert!(text.contains(&condition), "{text}");
        assert!(
            text.contains(&format!("last_backup_time_seconds{{{who}}} 60.0")),
            "{text}"
        );
        assert!(!text.contains("next_backup_time_seconds{"), "{text}");
        assert!(!text.contains("mirror") && !text.contains("new"), "{text}");
        assert!(
            text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1,
            "{text}"
        );
        let drill = text
            .lines()
            .filter(|line| !line.starts_with('#') && line.contains("drill"));
        assert_eq!(drill.count(), 0, "nothing is said of what was never tried: {text}");
        all.lock().unwrap().clear();
        assert!(!metrics.encode().contains("orders"));
    }
}
