//! The metrics of a run, in the OpenMetrics text form.

use std::fmt::Write as _;

use hardstorage_report::{SlotHealth, StreamPhase, StreamStatus};
use jiff::Timestamp;
use prometheus_client::encoding::text::encode as encode_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;

pub(crate) type Labels = Vec<(String, String)>;
pub(crate) type Float = Gauge<f64, AtomicU64>;

/// What these metrics are, for whoever scrapes them.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Encodes the state as it is now. The registry is made anew for each scrape: the state is the only truth. `more` adds
/// what only this command has.
pub(crate) fn encode(command: &str, streams: &[&StreamStatus], more: impl FnOnce(&mut Registry)) -> String {
    let mut registry = Registry::with_prefix("pg_hardstorage");
    let build = Family::<Labels, Gauge>::default();
    build
        .get_or_create(&vec![
            ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("command".to_owned(), command.to_owned()),
        ])
        .set(1);
    registry.register("build_info", "The program that runs", build);
    if !streams.is_empty() {
        register_streams(&mut registry, streams);
    }
    more(&mut registry);
    let mut text = String::new();
    if let Err(error) = encode_text(&mut text, &registry) {
        // Writing into a String does not fail; should it ever, the scraper sees why.
        let _ = write!(text, "# {error}");
    }
    text
}

/// One family for each metric, with one series for each stream that knows it.
fn register_streams(registry: &mut Registry, streams: &[&StreamStatus]) {
    let labels = |stream: &StreamStatus| vec![("deployment".to_owned(), stream.deployment.to_string())];
    let mut gauge = |name: &str, help: &str, unit: Option<Unit>, value: &dyn Fn(&StreamStatus) -> Option<f64>| {
        let family = Family::<Labels, Float>::default();
        let mut known = false;
        for stream in streams {
            // What is unknown has no series: a zero would be green.
            let Some(value) = value(stream) else { continue };
            family.get_or_create(&labels(stream)).set(value);
            known = true;
        }
        match unit {
            _ if !known => {}
            Some(unit) => registry.register_with_unit(name, help, unit, family),
            None => registry.register(name, help, family),
        }
    };
    let time = |at: Option<Timestamp>| at.map(|at| at.as_microsecond() as f64 / 1e6);
    let lsn = |at: Option<hardstorage_report::Lsn>| at.map(|at| at.0 as f64);
    gauge(
        "wal_received_lsn",
        "End of WAL that was received",
        Some(Unit::Bytes),
        &|stream| lsn(stream.received_lsn),
    );
    gauge(
        "wal_durable_lsn",
        "End of WAL that is durable in the repository",
        Some(Unit::Bytes),
        &|stream| lsn(stream.durable_lsn),
    );
    gauge(
        "wal_lag",
        "WAL on the server that is not durable yet",
        Some(Unit::Bytes),
        &|stream| stream.lag_bytes.map(|b| b as f64),
    );
    gauge(
        "wal_lag",
        "For how long the archive has been behind the server",
        Some(Unit::Seconds),
        &|stream| stream.lag_seconds,
    );
    gauge("wal_timeline", "Timeline that is streamed", None, &|stream| {
        stream.timeline.map(|t| f64::from(t.0))
    });
    gauge(
        "recoverable_from_time",
        "Earliest recoverable moment",
        Some(Unit::Seconds),
        &|stream| time(stream.recoverable_from),
    );
    gauge(
        "recoverable_to_time",
        "Latest recoverable moment",
        Some(Unit::Seconds),
        &|stream| time(stream.recoverable_to),
    );
    gauge(
        "wal_heard_time",
        "When the server was last heard",
        Some(Unit::Seconds),
        &|stream| time(stream.heard_at),
    );
    gauge(
        "slot_healthy",
        "Whether the slot keeps what is needed",
        None,
        &|stream| {
            let healthy = matches!(stream.slot_health, SlotHealth::Active | SlotHealth::None);
            Some(f64::from(u8::from(healthy)))
        },
    );

    let phases = Family::<Labels, Gauge>::default();
    for stream in streams {
        for phase in StreamPhase::ALL {
            let mut labels = labels(stream);
            labels.push(("phase".to_owned(), phase.as_str().to_owned()));
            phases.get_or_create(&labels).set(i64::from(phase == stream.phase));
        }
    }
    registry.register("wal_stream_phase", "What the stream is doing", phases);

    let slots = Family::<Labels, Gauge>::default();
    for stream in streams {
        for health in SlotHealth::ALL {
            let mut labels = labels(stream);
            labels.push(("health".to_owned(), health.as_str().to_owned()));
            slots
                .get_or_create(&labels)
                .set(i64::from(health == stream.slot_health));
        }
    }
    registry.register("slot_health", "What is known of the slot", slots);

    let mut counter = |name: &str, help: &str, value: fn(&StreamStatus) -> u64| {
        let family = Family::<Labels, Counter>::default();
        for stream in streams {
            family.get_or_create(&labels(stream)).inc_by(value(stream));
        }
        registry.register(name, help, family);
    };
    counter("wal_segments_archived", "Segments stored", |stream| stream.segments);
    counter("wal_received_bytes", "Bytes of WAL received", |stream| {
        stream.bytes_received
    });
    counter("wal_connections", "Connections opened to PostgreSQL", |stream| {
        stream.connections
    });
    counter("wal_gaps", "Gaps found", |stream| stream.gaps);
    counter("wal_slots_lost", "Slots that the server had invalidated", |stream| {
        stream.slots_lost
    });
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use hardstorage_report::Lsn;

    #[test]
    fn what_is_unknown_has_no_series() {
        let mut status = StreamStatus::new("db1".parse().unwrap(), Timestamp::UNIX_EPOCH);
        let text = encode("wal stream", &[&status], |_| {});
        assert!(!text.contains("wal_durable_lsn"), "{text}");
        status.durable_lsn = Some(Lsn(42));
        status.lag_bytes = Some(0);
        let text = encode("wal stream", &[&status], |_| {});
        assert!(
            text.contains("pg_hardstorage_wal_durable_lsn_bytes{deployment=\"db1\"} 42"),
            "{text}"
        );
        assert!(
            text.contains("pg_hardstorage_wal_lag_bytes{deployment=\"db1\"} 0"),
            "{text}"
        );
        assert!(text.contains("phase=\"connecting\"} 1"), "{text}");
        assert!(
            text.contains("health=\"unknown\"} 1") && text.contains("health=\"lost\"} 0"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn two_streams_share_their_families() {
        let mut streams = ["db1", "db2"].map(|name| StreamStatus::new(name.parse().unwrap(), Timestamp::UNIX_EPOCH));
        streams[1].lag_bytes = Some(7);
        let text = encode("agent", &[&streams[0], &streams[1]], |_| {});
        assert_eq!(text.matches("# TYPE pg_hardstorage_wal_gaps ").count(), 1, "{text}");
        assert!(
            text.contains("pg_hardstorage_wal_gaps_total{deployment=\"db2\"} 0"),
            "{text}"
        );
        assert_eq!(text.matches("pg_hardstorage_wal_lag_bytes{").count(), 1, "{text}");
    }

    /// What dashboards and alerts are written against is the page: it names all of them, and no other.
    #[test]
    fn the_page_names_what_is_served() {
        let mut status = StreamStatus::new("db1".parse().unwrap(), Timestamp::UNIX_EPOCH);
        (status.received_lsn, status.durable_lsn) = (Some(Lsn(42)), Some(Lsn(42)));
        (status.lag_bytes, status.lag_seconds) = (Some(0), Some(0.0));
        status.timeline = Some(hardstorage_report::Timeline(1));
        (status.recoverable_from, status.recoverable_to) = (Some(Timestamp::UNIX_EPOCH), Some(Timestamp::UNIX_EPOCH));
        status.heard_at = Some(Timestamp::UNIX_EPOCH);
        let text = encode("wal stream", &[&status], |_| {});
        let page = include_str!("../../../docs/reference/metrics.md");
        let (page, _) = page.split_once("\n## The agent\n").unwrap();
        assert_eq!(served(&text), told(page));
    }

    /// The metrics in what is served.
    pub(crate) fn served(text: &str) -> BTreeSet<&str> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.split(['{', ' ']).next()).collect()
    }

    /// The metrics in a table of the page.
    pub(crate) fn told(page: &str) -> BTreeSet<&str> {
        let rows = page.lines().filter(|line| line.starts_with("| `pg_hardstorage_"));
        rows.filter_map(|line| line.split('`').nth(1)).collect()
    }
}
