//! Streams that break.

use hardstorage_replication::{Connection, ReplicationStream, ServerError, StreamEvent, StreamOptions};
use hardstorage_report::{Error, Lsn, Retry, Timeline, code};

use crate::fake::{Fake, connected, copy_data, error, fatal, keepalive, message, row, wal};

const START: u64 = 0x300_0000;

async fn start(connection: Connection, fake: &mut Fake) -> ReplicationStream {
    let start = connection.start_replication(Some("db1"), Lsn(START), Timeline(1), StreamOptions::default());
    let (_, stream) = tokio::join!(fake.stream("1min"), start);
    stream.unwrap()
}

/// Streams ten bytes and then these, and closes; the error after the ten bytes.
async fn after(bytes: &[u8]) -> Error {
    let (connection, mut fake) = connected().await;
    let mut stream = start(connection, &mut fake).await;
    fake.send(&wal(START, b"0123456789")).await;
    fake.send(bytes).await;
    drop(fake);
    match stream.next().await.unwrap() {
        Some(StreamEvent::Data { lsn, bytes, .. }) => assert_eq!((lsn, &bytes[..]), (Lsn(START), &b"0123456789"[..])),
        other => panic!("{other:?}"),
    }
    stream.next().await.unwrap_err()
}

#[tokio::test]
async fn an_error_in_mid_stream_comes_after_the_data_before_it() {
    let removed = after(&error("58P01", "所请求的WAL段已被删除")).await;
    assert!(removed.is(code::replication::WAL_REMOVED), "{removed:?}");
    assert_eq!(removed.retry_advice(), Retry::Never);
    let stopped = after(&fatal("57P01", "terminating")).await;
    assert!(stopped.is(code::replication::UNREACHABLE), "{stopped:?}");
    assert_eq!(stopped.retry_advice(), Retry::Later);
    assert_eq!(ServerError::of(&stopped).unwrap().severity, "FATAL");
}

#[tokio::test]
async fn a_torn_message_is_the_end_of_the_connection_and_never_data() {
    let whole = wal(START + 10, b"0123456789");
    for cut in 1..whole.len() {
        let torn = after(&whole[..cut]).await;
        assert!(torn.is(code::replication::UNREACHABLE), "{cut}: {torn:?}");
        assert_eq!(torn.retry_advice(), Retry::Now);
    }
    assert!(after(&[]).await.is(code::replication::UNREACHABLE));
}

#[tokio::test]
async fn lengths_and_kinds_that_cannot_be_are_protocol_errors() {
    for bad in [
        &b"d\x7f\xff\xff\xff"[..],
        b"d\xff\xff\xff\xff",
        b"d\x00\x00\x00\x03",
        b"C\x00\x01\x00\x00",
        &message(b'!', b""),
        &copy_data(b""),
        &copy_data(b"x1234"),
        &copy_data(b"w1234"),
        &copy_data(b"k1234"),
        &message(b'Z', b"I"),
        &row(&[Some("1")]),
        &message(b'H', &[0, 0, 0]),
    ] {
        let error = after(bad).await;
        assert!(error.is(code::replication::PROTOCOL), "{bad:?}: {error:?}");
        assert_eq!(error.retry_advice(), Retry::Never);
    }
    let beyond = copy_data(&[&b"w\xff\xff\xff\xff\xff\xff\xff\xff"[..], &[0; 16], b"x"].concat());
    assert!(after(&beyond).await.is(code::replication::PROTOCOL));
}

#[tokio::test]
async fn refusals_of_a_start() {
    for (state, text, expected) in [
        ("55006", "slot \"db1\" 4711", code::replication::SLOT_IN_USE),
        ("42704", "x", code::replication::SLOT_MISSING),
        ("55000", "x", code::replication::SLOT_UNUSABLE),
        ("58P01", "x", code::replication::WAL_REMOVED),
        ("53300", "x", code::replication::SENDERS_FULL),
        ("XX000", "x", code::replication::SERVER),
    ] {
        let (connection, mut fake) = connected().await;
        let start = connection.start_replication(Some("db1"), Lsn(START), Timeline(1), StreamOptions::default());
        let script = async {
            fake.answer("SHOW", &row(&[Some("1min")])).await;
            fake.answer("START_REPLICATION", &error(state, text)).await;
        };
        let ((), refused) = tokio::join!(script, start);
        let refused = refused.unwrap_err();
        assert!(refused.is(expected), "{refused:?}");
        if expected == code::replication::SLOT_IN_USE {
            assert!(refused.message().contains("process 4711"), "{refused}");
        }
    }
}

#[tokio::test]
async fn keepalives_count_against_the_budget() {
    let (connection, mut fake) = connected().await;
    let options = StreamOptions {
        budget: 1 << 10,
        ..StreamOptions::default()
    };
    let start = connection.start_replication(None, Lsn(START), Timeline(1), options);
    let (_, stream) = tokio::join!(fake.stream("1min"), start);
    let mut stream = stream.unwrap();
    let flood: Vec<u8> = (0..100_000u64).flat_map(|n| keepalive(START + n, false)).collect();
    // The pipe holds 64 KiB, so most of the flood can only be sent because the consumer takes it.
    let server = async {
        fake.send(&flood).await;
        drop(fake);
    };
    let consumer = async {
        for n in 0..100_000u64 {
            match stream.next().await.unwrap() {
                Some(StreamEvent::Keepalive { server_end, .. }) => assert_eq!(server_end, Lsn(START + n)),
                other => panic!("{other:?}"),
            }
        }
        stream.next().await.unwrap_err()
    };
    let ((), end) = tokio::join!(server, consumer);
    assert!(end.is(code::replication::UNREACHABLE), "{end:?}");
}
