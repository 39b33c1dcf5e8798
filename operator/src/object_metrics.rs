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

/// Gives the objects of a kind as they are now.
pub type Look = Arc<dyn Fn() -> Vec<Value> + Send + Sync>;
type Labels = Vec<(&'static str, String)>;
type Float = Gauge<f64, AtomicU64>;

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
        let (last, next) = (Family::<Labels, Float>::default(), Family::<Labels, Float>::default());
        let kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (kind, look) in kinds {
            for object in look() {
                if object.pointer("/spec/recorded").is_some() {
                    continue;
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
                for (family, pointer) in [(&last, "/status/lastBackup/time"), (&next, "/status/nextTime")] {
                    // What is unknown has no series.
                    if let Ok(at) = text(pointer).parse::<Timestamp>() {
                        family.get_or_create(&who).set(at.as_microsecond() as f64 / 1e6);
                    }
                }
            }
        }
        let mut registry = Registry::with_prefix("pg_hardstorage_operator");
        registry.register(
            "object_condition",
            "1 for each condition that an object has",
            conditions,
        );
        registry.register_with_unit("last_backup_time", "When the last backup was made", Unit::Seconds, last);
        registry.register_with_unit("next_backup_time", "When the next backup is due", Unit::Seconds, next);
        registry
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]
    use super::*;
    use crate::metrics::Metrics;
    use serde_json::json;

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
        metrics.show("Deployment", Arc::new(move || seen.lock().unwrap().clone()));
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
        all.lock().unwrap().clear();
        assert!(!metrics.encode().contains("orders"));
    }
}
