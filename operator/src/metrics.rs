//! The operator's own figures. Those of the streams are served by the streams, so that a dead operator is not green.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::object_metrics::{Look, Objects};

/// Which controller.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// Which controller, and what went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    kind: &'static str,
    error: &'static str,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    reconciles: Family<Kind, Counter>,
    failures: Family<Failure, Counter>,
    seconds: Family<Kind, Histogram>,
    leader: Gauge<i64, std::sync::atomic::AtomicI64>,
    writes: Family<Kind, Counter<u64, AtomicU64>>,
    objects: Objects,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("pg_hardstorage_operator");
        let reconciles = Family::<Kind, Counter>::default();
        registry.register("reconciles", "Reconciles begun", reconciles.clone());
        let failures = Family::<Failure, Counter>::default();
        registry.register(
            "reconcile_failures",
            "Reconciles that are tried again",
            failures.clone(),
        );
        let seconds =
            Family::<Kind, Histogram>::new_with_constructor(|| Histogram::new(exponential_buckets(0.005, 2.0, 12)));
        registry.register("reconcile_seconds", "How long a reconcile took", seconds.clone());
        let leader = Gauge::default();
        registry.register("leader", "1 on the replica that acts", leader.clone());
        let writes = Family::<Kind, Counter<u64, AtomicU64>>::default();
        registry.register("status_writes", "Statuses written", writes.clone());
        Metrics {
            registry: Arc::new(registry),
            reconciles,
            failures,
            seconds,
            leader,
            writes,
            objects: Objects::default(),
        }
    }
}

impl Metrics {
    /// A reconcile has begun.
    pub fn begin(&self, kind: &'static str) {
        self.reconciles.get_or_create(&Kind { kind }).inc();
    }

    /// It has ended.
    pub fn end(&self, kind: &'static str, took: Duration) {
        self.seconds.get_or_create(&Kind { kind }).observe(took.as_secs_f64());
    }

    /// It has failed.
    pub fn failed(&self, kind: &'static str, error: &'static str) {
        self.failures.get_or_create(&Failure { kind, error }).inc();
    }

    /// A status was written.
    pub fn wrote(&self, kind: &'static str) {
        self.writes.get_or_create(&Kind { kind }).inc();
    }

    /// Whether this replica acts.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// What the objects of a kind say of themselves is shown from now on.
    pub fn show(&self, kind: &'static str, look: Look) {
        self.objects.show(kind, look);
    }

    /// The text that Prometheus reads.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode_registry(&mut text, &self.registry)
            .and_then(|()| encode_registry(&mut text, &self.objects.registry()))
            .and_then(|()| encode_eof(&mut text));
        text
    }
}
