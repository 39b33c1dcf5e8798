//! When the server is told how far we are. Time here is moved by the test runtime, so nothing waits and nothing is early.

use std::time::{Duration, UNIX_EPOCH};

use hardstorage_replication::{ReplicationStream, StreamEvent, StreamOptions};
use hardstorage_report::{Lsn, Timeline, code};
use tokio::time::Instant;

use crate::fake::{Fake, Status, connected, connected_through, keepalive, wal};

const START: u64 = 0x300_0000;

fn options() -> StreamOptions {
    StreamOptions {
        status_interval: Duration::from_secs(10),
        receive_timeout: Duration::from_mins(1),
        budget: 1 << 20,
        linger: Duration::ZERO,
        clock: || UNIX_EPOCH,
    }
}

async fn streaming_with(pipe: usize, options: StreamOptions, wal_sender_timeout: &str) -> (ReplicationStream, Fake) {
    let (connection, mut fake) = connected_through(pipe).await;
    let start = connection.start_replication(Some("db1"), Lsn(START), Timeline(1), options);
    let (text, stream) = tokio::join!(fake.stream(wal_sender_timeout), start);
    assert_eq!(text, "START_REPLICATION SLOT \"db1\" PHYSICAL 0/3000000 TIMELINE 1");
    (stream.unwrap(), fake)
}

async fn streaming() -> (ReplicationStream, Fake) {
    streaming_with(64 << 10, options(), "1min").await
}

fn told(written: u64, flushed: u64) -> Status {
    Status {
        written,
        flushed,
        applied: flushed,
        reply_requested: false,
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_is_answered_at_once_with_what_is_acknowledged() {
    let (mut stream, mut fake) = streaming().await;
    fake.send(&wal(START, &[7; 100])).await;
    assert!(matches!(stream.next().await.unwrap(), Some(StreamEvent::Data { .. })));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = Instant::now();
    fake.send(&keepalive(START + 100, true)).await;
    assert_eq!(fake.status().await, told(0, 0));
    assert_eq!(asked.elapsed(), Duration::ZERO);
    let event = stream.next().await.unwrap();
    assert!(
        matches!(
            event,
            Some(StreamEvent::Keepalive {
                reply_requested: true,
                ..
            })
        ),
        "{event:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_higher_flush_is_told_at_once_and_a_lower_one_never() {
    let (mut stream, mut fake) = streaming().await;
    fake.send(&wal(START, &[7; 100])).await;
    stream.next().await.unwrap();
    let acknowledge = stream.acknowledge();
    let set = Instant::now();
    acknowledge.set(Lsn(START + 100), Lsn(START + 40));
    assert_eq!(fake.status().await, told(START + 100, START + 40));
    assert_eq!(set.elapsed(), Duration::ZERO);
    // Neither goes back, and what is flushed is written too.
    acknowledge.set(Lsn(START), Lsn(START + 10));
    tokio::time::sleep(Duration::from_secs(1)).await;
    fake.send(&keepalive(START + 100, true)).await;
    assert_eq!(fake.status().await, told(START + 100, START + 40));
    acknowledge.set(Lsn(START), Lsn(START + 50));
    assert_eq!(fake.status().await, told(START + 100, START + 50));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_received_is_never_acknowledged() {
    let (mut stream, mut fake) = streaming().await;
    stream.acknowledge().set(Lsn(START + 1000), Lsn(START + 1000));
    assert_eq!(fake.status().await, told(START, START));
    fake.send(&wal(START, &[7; 100])).await;
    stream.next().await.unwrap();
    assert_eq!(fake.status().await, told(START + 100, START + 100));
}

#[tokio::test(start_paused = true)]
async fn statuses_go_out_while_the_consumer_is_slow_and_no_byte_is_lost() {
    let slow = StreamOptions {
        budget: 4 << 10,
        ..options()
    };
    let (mut stream, mut fake) = streaming_with(2 << 10, slow, "30s").await;
    let sent: Vec<u8> = (0..200u64)
        .flat_map(|n| wal(START + n * 1000, &[n as u8; 1000]))
        .collect();
    // The pipe is full, the budget used up, and nobody takes anything for ten times the server's patience. A third
    // of its 30 s is the interval.
    let blocked = tokio::time::timeout(Duration::from_secs(1), fake.send_what_it_takes(&sent[..100_000])).await;
    assert!(blocked.is_err(), "the whole of it was read without anyone taking it");
    for _ in 0..30 {
        let waited = Instant::now();
        fake.status().await;
        assert!(waited.elapsed() <= Duration::from_secs(10), "{:?}", waited.elapsed());
    }
    drop(fake);
    drop(stream.next().await);
}

#[tokio::test(start_paused = true)]
async fn a_slow_consumer_gets_every_byte_in_order() {
    let slow = StreamOptions {
        budget: 4 << 10,
        ..options()
    };
    let (mut stream, mut fake) = streaming_with(2 << 10, slow, "30s").await;
    // It never reads, so statuses fill the pipe the other way: that must not stop the data.
    let server = async {
        for n in 0..200u64 {
            fake.send(&wal(START + n * 1000, &[n as u8; 1000])).await;
        }
        fake
    };
    let consumer = async {
        let mut next = START;
        while next < START + 200_000 {
            tokio::time::sleep(Duration::from_secs(70)).await;
            match stream.next().await.unwrap() {
                Some(StreamEvent::Data { lsn, bytes, .. }) => {
                    assert_eq!(lsn, Lsn(next));
                    assert!(bytes.iter().all(|b| *b == ((next - START) / 1000) as u8));
                    next += bytes.len() as u64;
                }
                other => panic!("{other:?}"),
            }
        }
        stream
    };
    let (mut fake, stream) = tokio::join!(server, consumer);
    // Between two events more than the receive timeout went by: time without reading is not the server's silence.
    drop(stream);
    let mut statuses = 0;
    while let Some(said) = fake.said().await {
        assert!(matches!(said, crate::fake::Said::Status(_)));
        statuses += 1;
    }
    assert!(statuses >= (2 << 10) / 39 - 1, "{statuses}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_server_that_answers_is_healthy_for_ever() {
    let (mut stream, mut fake) = streaming().await;
    let server = async {
        let mut asked = 0;
        while asked < 100 {
            if fake.status().await.reply_requested {
                asked += 1;
                fake.send(&keepalive(START, false)).await;
            }
        }
        fake
    };
    let consumer = async {
        for _ in 0..100 {
            let event = stream.next().await.unwrap();
            assert!(matches!(event, Some(StreamEvent::Keepalive { .. })), "{event:?}");
        }
        stream
    };
    let begun = Instant::now();
    let (_fake, _stream) = tokio::join!(server, consumer);
    assert!(
        begun.elapsed() > 10 * options().receive_timeout,
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_asked_and_then_unreachable() {
    let (mut stream, mut fake) = streaming().await;
    let begun = Instant::now();
    let silent = stream.next().await.unwrap_err();
    assert!(silent.is(code::replication::UNREACHABLE), "{silent:?}");
    assert_eq!(begun.elapsed(), options().receive_timeout);
    let mut asked = 0;
    while let Some(said) = fake.said().await {
        asked += usize::from(
            said == crate::fake::Said::Status(Status {
                reply_requested: true,
                ..told(0, 0)
            }),
        );
    }
    assert!(asked >= 3, "{asked}");
    // And it stays so.
    assert!(stream.next().await.unwrap_err().is(code::replication::UNREACHABLE));
    assert!(stream.finish().await.unwrap_err().is(code::replication::UNREACHABLE));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_without_end_is_answered_ten_times_a_second() {
    let (mut stream, mut fake) = streaming().await;
    fake.send(&wal(START, &[7; 100])).await;
    stream.next().await.unwrap();
    let begun = Instant::now();
    let mut answers = 0;
    fake.send(&keepalive(START + 100, true)).await;
    while begun.elapsed() < Duration::from_secs(10) {
        fake.status().await;
        answers += 1;
        fake.send(&keepalive(START + 100, true)).await;
    }
    assert!((90..=110).contains(&answers), "{answers}");
    // What it waits for is told without such a pause.
    stream.acknowledge().set(Lsn(START + 100), Lsn(START + 100));
    let told_at = Instant::now();
    while fake.status().await.flushed < START + 100 {}
    assert_eq!(told_at.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_interval_follows_the_servers_own_timeout() {
    for (timeout, expected) in [
        ("3s", 1_000),
        ("300ms", 100),
        ("0", 10_000),
        ("1h", 10_000),
        ("?", 10_000),
    ] {
        let (_stream, mut fake) = streaming_with(64 << 10, options(), timeout).await;
        let begun = Instant::now();
        fake.status().await;
        assert_eq!(begun.elapsed(), Duration::from_millis(expected), "{timeout}");
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_stream_closes_the_connection() {
    let (stream, mut fake) = streaming().await;
    drop(stream);
    assert_eq!(fake.said().await, None);
}

#[tokio::test]
async fn a_role_that_may_not_see_the_timeout_streams_nevertheless() {
    let (connection, mut fake) = connected().await;
    let start = connection.start_replication(None, Lsn(START), Timeline(1), options());
    let script = async {
        fake.answer("SHOW", &crate::fake::error("42501", "denied")).await;
        let text = fake.expect("START_REPLICATION").await;
        fake.send(&crate::fake::copy_both()).await;
        text
    };
    let (text, stream) = tokio::join!(script, start);
    assert_eq!(text, "START_REPLICATION PHYSICAL 0/3000000 TIMELINE 1");
    stream.unwrap();
}
