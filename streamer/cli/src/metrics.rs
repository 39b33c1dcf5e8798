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

type Labels = Vec<(String, String)>;
type Float = Gauge<f64, AtomicU64>;

/// Encodes the state as it is now. The registry is made anew for each scrape: the state is the only truth.
pub(crate) fn encode(command: &str, stream: Option<&StreamStatus>) -> String {
    let mut registry = Registry::with_prefix("pg_hardstorage");
    let build = Family::<Labels, Gauge>::default();
    build
        .get_or_create(&vec![
            ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("command".to_owned(), command.to_owned()),
        ])
        .set(1);
    registry.register("build_info", "The program that runs", build);
    if let Some(stream) = stream {
        register_stream(&mut registry, stream);
    }
    let mut text = String::new();
    if let Err(error) = encode_text(&mut text, &registry) {
        // Writing into a String does not fail; should it ever, the scraper sees why.
        let _ = write!(text, "# {error}");
    }
    text
}

fn register_stream(registry: &mut Registry, stream: &StreamStatus) {
    let labels: Labels = vec![("deployment".to_owned(), stream.deployment.to_string())];
    let mut gauge = |name: &str, help: &str, unit: Option<Unit>, value: Option<f64>| {
        // What is unknown has no series: a zero would be green.
        let Some(value) = value else { return };
        let family = Family::<Labels, Float>::default();
        family.get_or_create(&labels).set(value);
        match unit {
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
        lsn(stream.received_lsn),
    );
    gauge(
        "wal_durable_lsn",
        "End of WAL that is durable in the repository",
        Some(Unit::Bytes),
        lsn(stream.durable_lsn),
    );
    gauge(
        "wal_lag",
        "WAL on the server that is not durable yet",
        Some(Unit::Bytes),
        stream.lag_bytes.map(|b| b as f64),
    );
    gauge(
        "wal_lag",
        "For how long the archive has been behind the server",
        Some(Unit::Seconds),
        stream.lag_seconds,
    );
    gauge(
        "wal_timeline",
        "Timeline that is streamed",
        None,
        stream.timeline.map(|t| f64::from(t.0)),
    );
    gauge(
        "recoverable_from_time",
        "Earliest recoverable moment",
        Some(Unit::Seconds),
        time(stream.recoverable_from),
    );
    gauge(
        "recoverable_to_time",
        "Latest recoverable moment",
        Some(Unit::Seconds),
        time(stream.recoverable_to),
    );
    gauge(
        "wal_heard_time",
        "When the server was last heard",
        Some(Unit::Seconds),
        time(stream.heard_at),
    );
    let healthy = match stream.slot_health {
        SlotHealth::Active | SlotHealth::None => 1.0,
        _ => 0.0,
    };
    gauge(
        "slot_healthy",
        "Whether the slot keeps what is needed",
        None,
        Some(healthy),
    );

    let phases = Family::<Labels, Gauge>::default();
    for phase in StreamPhase::ALL {
        let mut labels = labels.clone();
        labels.push(("phase".to_owned(), phase.as_str().to_owned()));
        phases.get_or_create(&labels).set(i64::from(phase == stream.phase));
    }
    registry.register("wal_stream_phase", "What the stream is doing", phases);

    let mut counter = |name: &str, help: &str, value: u64| {
        let family = Family::<Labels, Counter>::default();
        family.get_or_create(&labels).inc_by(value);
        registry.register(name, help, family);
    };
    counter("wal_segments_archived", "Segments stored", stream.segments);
    counter("wal_received_bytes", "Bytes of WAL received", stream.bytes_received);
    counter(
        "wal_connections",
        "Connections opened to PostgreSQL",
        stream.connections,
    );
    counter("wal_gaps", "Gaps found", stream.gaps);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use hardstorage_report::Lsn;

    #[test]
    fn what_is_unknown_has_no_series() {
        let mut status = StreamStatus::new("db1".parse().unwrap(), Timestamp::UNIX_EPOCH);
        let text = encode("wal stream", Some(&status));
        assert!(!text.contains("wal_durable_lsn"), "{text}");
        status.durable_lsn = Some(Lsn(42));
        status.lag_bytes = Some(0);
        let text = encode("wal stream", Some(&status));
        assert!(
            text.contains("pg_hardstorage_wal_durable_lsn_bytes{deployment=\"db1\"} 42"),
            "{text}"
        );
        assert!(
            text.contains("pg_hardstorage_wal_lag_bytes{deployment=\"db1\"} 0"),
            "{text}"
        );
        assert!(text.contains("phase=\"connecting\"} 1"), "{text}");
        assert!(text.ends_with("# EOF\n"));
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
        let text = encode("wal stream", Some(&status));
        let served: BTreeSet<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split(['{', ' ']).next())
            .collect();
        let page = include_str!("../../../docs/reference/metrics.md");
        let (page, _) = page.split_once("\n## The operator\n").unwrap();
        let told: BTreeSet<&str> = page
            .lines()
            .filter_map(|line| {
                line.strip_prefix("| `pg_hardstorage_")
                    .and_then(|_| line.split('`').nth(1))
            })
            .collect();
        assert_eq!(served, told);
    }
}
