//! WAL from real servers: byte for byte, idle, slow, across a promotion, through a shutdown.

use std::fs;
use std::time::Duration;

use hardstorage_e2e::Cluster;
use hardstorage_replication::{Connection, ReplicationStream, StreamEvent, StreamOptions};
use hardstorage_report::{Error, Lsn, Retry, SegmentName, SegmentSize, Timeline, code};
use tokio::time::{Instant, timeout_at};

use crate::real_slot::{connection, lsn};

const SIZE: SegmentSize = SegmentSize::DEFAULT;
const SENDER: &str = "SELECT active_pid FROM pg_replication_slots";

/// A new slot and the start of the segment from which it keeps WAL.
async fn reserve(connection: &mut Connection) -> Lsn {
    connection.create_slot("db1", false, true).await.unwrap();
    let slot = connection.read_slot("db1").await.unwrap().unwrap();
    slot.restart_lsn.unwrap().segment_start(SIZE)
}

async fn stream_from_slot(cluster: &Cluster, options: StreamOptions) -> (ReplicationStream, Lsn) {
    let mut connection = connection(cluster).await;
    let from = reserve(&mut connection).await;
    let stream = connection
        .start_replication(Some("db1"), from, Timeline(1), options)
        .await
        .unwrap();
    (stream, from)
}

/// Receives until `end`, byte after byte.
async fn receive(stream: &mut ReplicationStream, from: Lsn, end: Lsn) -> Vec<u8> {
    let mut received = Vec::new();
    while from.add(received.len() as u64) < end {
        match stream.next().await.unwrap() {
            Some(StreamEvent::Data {
                lsn, bytes, server_end, ..
            }) => {
                assert_eq!(lsn, from.add(received.len() as u64));
                received.extend_from_slice(&bytes);
                assert!(server_end >= from.add(received.len() as u64));
            }
            Some(StreamEvent::Keepalive { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    received
}

async fn byte_for_byte(major: u16) {
    let mut cluster = Cluster::builder(major).start();
    let (mut stream, from) = stream_from_slot(&cluster, StreamOptions::default()).await;
    cluster.sql("CREATE TABLE t AS SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g");
    let switch = lsn(&cluster.value("SELECT pg_switch_wal()"));
    let end = switch.segment_start(SIZE).add(SIZE.bytes());
    let received = receive(&mut stream, from, end).await;
    let mut name = SegmentName::containing(Timeline(1), from, SIZE);
    for segment in received.chunks(SIZE.bytes() as usize) {
        let on_disk = fs::read(cluster.data().join("pg_wal").join(name.to_string())).unwrap();
        assert!(on_disk == segment, "segment {name} differs");
        name = name.next(SIZE);
    }

    // What is acknowledged moves the slot, and what is applied is what is flushed.
    stream.acknowledge().set(end, end);
    let told = cluster.until("the acknowledged position", |c| {
        let sql = "SELECT write_lsn || ' ' || flush_lsn || ' ' || replay_lsn FROM pg_stat_replication";
        c.try_value(sql).ok().filter(|told| told.starts_with(&end.to_string()))
    });
    assert_eq!(told, format!("{end} {end} {end}"));
    cluster.until("the slot has moved", |c| {
        let sql = "SELECT restart_lsn FROM pg_replication_slots";
        (lsn(&c.try_value(sql).ok()?) == end).then_some(())
    });
    // The connection takes the next command.
    let mut connection = stream.finish().await.unwrap();
    assert_eq!(connection.identify().await.unwrap().timeline, Timeline(1));
    connection.drop_slot("db1", false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wal_of_15_byte_for_byte() {
    byte_for_byte(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wal_of_18_byte_for_byte() {
    byte_for_byte(18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_primary_is_healthy_for_more_than_three_times_every_timeout() {
    let cluster = Cluster::builder(18).set("wal_sender_timeout", "2s").start();
    let options = StreamOptions {
        receive_timeout: Duration::from_secs(2),
        ..StreamOptions::default()
    };
    let (mut stream, _) = stream_from_slot(&cluster, options).await;
    let sender = cluster.value(SENDER);
    let until = Instant::now() + Duration::from_secs(7);
    let mut answers = 0;
    while let Ok(event) = timeout_at(until, stream.next()).await {
        match event.unwrap() {
            Some(StreamEvent::Keepalive { .. }) => answers += 1,
            Some(StreamEvent::Data { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(answers >= 3, "{answers}");
    assert_eq!(cluster.value(SENDER), sender);
    stream.finish().await.unwrap();
    assert!(!cluster.log().contains("terminating walsender"), "{}", cluster.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_stands_still_for_three_timeouts_keeps_its_stream() {
    let cluster = Cluster::builder(18).set("wal_sender_timeout", "2s").start();
    let options = StreamOptions {
        receive_timeout: Duration::from_secs(2),
        budget: 64 << 10,
        ..StreamOptions::default()
    };
    let (mut stream, from) = stream_from_slot(&cluster, options).await;
    let sender = cluster.value(SENDER);
    cluster.sql("CREATE TABLE t AS SELECT g, repeat('x', 500) FROM generate_series(1, 60000) g");
    let end = lsn(&cluster.insert_lsn());
    // Far more than budget and socket buffers hold: the server stands still too.
    assert!(from.bytes_until(end) > 30 << 20);
    tokio::time::sleep(Duration::from_secs(7)).await;
    receive(&mut stream, from, end).await;
    assert_eq!(cluster.value(SENDER), sender);
    stream.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_waits_for_what_is_not_safe_yet() {
    let mut cluster = Cluster::builder(18).start();
    let (mut stream, _) = stream_from_slot(&cluster, StreamOptions::default()).await;
    let acknowledge = stream.acknowledge();
    let stopping = tokio::task::spawn_blocking(move || {
        cluster.stop();
        cluster
    });
    // Nothing is acknowledged before the server asks for it, as when a part of a segment is not stored yet.
    let mut received = Lsn::INVALID;
    loop {
        match stream.next().await.unwrap() {
            Some(StreamEvent::Data { lsn, bytes, .. }) => received = lsn.add(bytes.len() as u64),
            Some(StreamEvent::Keepalive { reply_requested, .. }) => {
                if reply_requested {
                    acknowledge.set(received, received);
                }
            }
            Some(StreamEvent::ServerShutdown) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(stream.next().await.unwrap(), None);
    let cluster = stopping.await.unwrap();
    // The end of the shutdown checkpoint: the server had nothing that we have not.
    let control = cluster
        .tool("pg_controldata", &["-D", &cluster.data().display().to_string()])
        .ok();
    let checkpoint = control
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("Latest checkpoint location:"))
        .map(|text| lsn(text.trim()))
        .unwrap();
    assert!(received > checkpoint, "{received} {checkpoint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_ends_the_timeline_and_the_next_goes_on() {
    let primary = Cluster::builder(18).start();
    let mut standby = primary.standby();
    let mut connection = connection(&standby).await;
    let from = connection.identify().await.unwrap().flush_lsn.segment_start(SIZE);
    let mut stream = connection
        .start_replication(None, from, Timeline(1), StreamOptions::default())
        .await
        .unwrap();
    primary.sql("CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g");
    let written = lsn(&primary.insert_lsn());
    receive(&mut stream, from, written).await;
    standby.promote();
    let (next, at) = end_of_timeline(&mut stream).await;
    assert_eq!(next, Timeline(2));
    assert!(at >= written, "{at} {written}");
    assert_eq!(stream.next().await.unwrap(), None);

    // The same connection asks what happened and goes on there, from the start of the segment.
    let mut connection = stream.finish().await.unwrap();
    let (name, content) = connection.timeline_history(next).await.unwrap();
    assert_eq!(name, "00000002.history");
    assert_eq!(content, fs::read(standby.data().join("pg_wal").join(&name)).unwrap());
    standby.sql("CREATE TABLE u AS SELECT g FROM generate_series(1, 1000) g");
    let begin = at.segment_start(SIZE);
    let mut stream = connection
        .start_replication(None, begin, next, StreamOptions::default())
        .await
        .unwrap();
    receive(&mut stream, begin, lsn(&standby.insert_lsn())).await;

    // The old timeline on the promoted server: from before its end, and from exactly its end.
    for start in [begin, at] {
        let connection = stream.finish().await.unwrap();
        stream = connection
            .start_replication(None, start, Timeline(1), StreamOptions::default())
            .await
            .unwrap();
        assert_eq!(end_of_timeline(&mut stream).await, (Timeline(2), at));
    }
    stream.finish().await.unwrap();
}

async fn end_of_timeline(stream: &mut ReplicationStream) -> (Timeline, Lsn) {
    loop {
        match stream.next().await.unwrap() {
            Some(StreamEvent::EndOfTimeline { next, at }) => return (next, at),
            Some(StreamEvent::Data { .. } | StreamEvent::Keepalive { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn failure(mut stream: ReplicationStream) -> Error {
    loop {
        match stream.next().await {
            Ok(Some(StreamEvent::Data { .. } | StreamEvent::Keepalive { .. })) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => return error,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_wal_and_wal_that_is_not_there_yet() {
    let cluster = Cluster::builder(18)
        .set("wal_keep_size", "0")
        .set("min_wal_size", "32MB")
        .start();
    let old = lsn(&cluster.insert_lsn()).segment_start(SIZE);
    for n in 0..4 {
        cluster.sql(&format!("CREATE TABLE t{n}(); SELECT pg_switch_wal()"));
    }
    cluster.sql("CHECKPOINT");
    let removed = refusal(&cluster, old, Timeline(1)).await;
    assert!(removed.is(code::replication::WAL_REMOVED), "{removed:?}");
    let ahead = refusal(&cluster, lsn(&cluster.insert_lsn()).add(64 << 20), Timeline(1)).await;
    assert!(ahead.is(code::replication::SERVER), "{ahead:?}");
    let unknown = refusal(&cluster, old, Timeline(9)).await;
    assert!(unknown.is(code::replication::SERVER), "{unknown:?}");
}

/// Why no stream comes from there; the server may say so at once, or after the COPY has begun.
async fn refusal(cluster: &Cluster, from: Lsn, timeline: Timeline) -> Error {
    let connection = connection(cluster).await;
    match connection
        .start_replication(None, from, timeline, StreamOptions::default())
        .await
    {
        Ok(stream) => failure(stream).await,
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_or_crashed_server_is_unreachable() {
    let mut cluster = Cluster::builder(18).start();
    let (stream, from) = stream_from_slot(&cluster, StreamOptions::default()).await;
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication");
    let terminated = failure(stream).await;
    assert!(terminated.is(code::replication::UNREACHABLE), "{terminated:?}");
    assert_ne!(terminated.retry_advice(), Retry::Never);
    // A terminated walsender says so before it lets its slot go.
    cluster.until("the slot is free", |c| {
        let active = c.try_value("SELECT active FROM pg_replication_slots WHERE slot_name = 'db1'");
        active.is_ok_and(|active| active == "f").then_some(())
    });
    let again = connection(&cluster).await;
    let stream = again
        .start_replication(Some("db1"), from, Timeline(1), StreamOptions::default())
        .await
        .unwrap();
    cluster.kill();
    let crashed = failure(stream).await;
    assert!(crashed.is(code::replication::UNREACHABLE), "{crashed:?}");
    assert_ne!(crashed.retry_advice(), Retry::Never);
}
