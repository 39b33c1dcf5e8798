//! What passes between a stream and its server beside the clocks: an acknowledgement goes out where it is made, a stream
//! that nobody waits for rests, and a dropped one is gone. Time is moved by the test runtime.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, UNIX_EPOCH};

use hardstorage_replication::{ReplicationStream, StreamEvent, StreamOptions};
use hardstorage_report::{Lsn, Timeline, code};
use tokio::time::Instant;

use crate::fake::{Fake, connected_through, keepalive, wal};

const START: u64 = 0x300_0000;
const REST: Duration = Duration::from_millis(20);

async fn streaming(pipe: usize, linger: Duration) -> (ReplicationStream, Fake) {
    streaming_with(pipe, |options| StreamOptions { linger, ..options }).await
}

async fn streaming_with(pipe: usize, change: impl FnOnce(StreamOptions) -> StreamOptions) -> (ReplicationStream, Fake) {
    let options = change(StreamOptions {
        status_interval: Duration::from_secs(10),
        receive_timeout: Duration::from_mins(1),
        budget: 1 << 20,
        linger: Duration::ZERO,
        clock: || UNIX_EPOCH,
    });
    let (connection, mut fake) = connected_through(pipe).await;
    let start = connection.start_replication(Some("db1"), Lsn(START), Timeline(1), options);
    let (_, stream) = tokio::join!(fake.stream("1min"), start);
    (stream.unwrap(), fake)
}

/// The length of the next piece of WAL, and when it came.
async fn piece(stream: &mut ReplicationStream) -> (usize, Instant) {
    match stream.next().await.unwrap() {
        Some(StreamEvent::Data { bytes, .. }) => (bytes.len(), Instant::now()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_is_on_its_way_before_anybody_else_runs() {
    let (mut stream, mut fake) = streaming(64 << 10, Duration::ZERO).await;
    fake.send(&wal(START, &[7; 100])).await;
    piece(&mut stream).await;
    stream.acknowledge().set(Lsn(START + 100), Lsn(START + 100));
    // Nothing is awaited here, so no other task has run.
    let mut status = pin!(fake.status());
    let looked = status.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    match looked {
        Poll::Ready(status) => assert_eq!(status.flushed, START + 100),
        Poll::Pending => panic!("it is not on its way"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_that_the_socket_does_not_take_goes_out_later() {
    let (mut stream, mut fake) = streaming(50, Duration::ZERO).await;
    fake.send(&wal(START, &[7; 300])).await;
    piece(&mut stream).await;
    for flushed in 1..=300 {
        stream.acknowledge().set(Lsn(START + flushed), Lsn(START + flushed));
    }
    let mut told = fake.status().await.flushed;
    let first = told;
    while told < START + 300 {
        let next = fake.status().await.flushed;
        assert!(next > told, "{next:x} after {told:x}");
        told = next;
    }
    assert!(first < START + 300, "the pipe took all at once");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_waits_for_rests_and_takes_together_what_comes_meanwhile() {
    let (mut stream, mut fake) = streaming(64 << 10, REST).await;
    // Long after the last status, so that a question may be answered.
    tokio::time::sleep(Duration::from_secs(1)).await;
    fake.send(&wal(START, &[7; 100])).await;
    let (_, first) = piece(&mut stream).await;
    for n in 1..=3 {
        fake.send(&wal(START + n * 100, &[7; 100])).await;
        tokio::time::sleep(REST / 10).await;
    }
    // A question waits as long as the rest, not longer.
    fake.send(&keepalive(START + 400, true)).await;
    for _ in 1..=3 {
        let (length, at) = piece(&mut stream).await;
        assert_eq!((length, at - first), (100, REST));
    }
    fake.status().await;
    assert_eq!(first.elapsed(), REST);
    // After a rest without anything, what comes is taken at once.
    tokio::time::sleep(REST * 3).await;
    assert!(stream.next().await.unwrap().is_some());
    let sent = Instant::now();
    fake.send(&wal(START + 400, &[7; 100])).await;
    assert_eq!(piece(&mut stream).await.1, sent);
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_not_held_up() {
    let (mut stream, mut fake) = streaming(64 << 10, REST).await;
    let begun = Instant::now();
    let server = async {
        for n in 0..50 {
            fake.send(&wal(START + n * (128 << 10), &vec![7; 128 << 10])).await;
        }
        fake
    };
    let consumer = async {
        for _ in 0..50 {
            piece(&mut stream).await;
        }
    };
    tokio::join!(server, consumer);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stream_is_gone_although_somebody_could_acknowledge() {
    let (mut stream, mut fake) = streaming(64 << 10, Duration::ZERO).await;
    fake.send(&wal(START, &[7; 100])).await;
    piece(&mut stream).await;
    let acknowledge = stream.acknowledge();
    drop(stream);
    assert_eq!(fake.said().await, None);
    acknowledge.set(Lsn(START + 100), Lsn(START + 100));
}

/// Whoever makes WAL safe may hold up the thread that the stream is read on. Nothing of this moves the time.
#[tokio::test]
async fn somebody_stands_in_for_a_stream_that_is_held_up() {
    let (status_interval, receive_timeout) = (Duration::from_millis(20), Duration::from_millis(100));
    let (begun, begins) = tokio::sync::oneshot::channel();
    let (go_on, held_up) = std::sync::mpsc::channel::<()>();
    let reader = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let (mut stream, mut fake) = streaming_with(64 << 10, |options| StreamOptions {
                status_interval,
                receive_timeout,
                ..options
            })
            .await;
            fake.send(&wal(START, &[7; 100])).await;
            piece(&mut stream).await;
            let acknowledge = stream.acknowledge();
            acknowledge.set(Lsn(START + 100), Lsn(START + 60));
            begun.send((acknowledge, fake)).ok().unwrap();
            held_up.recv().unwrap();
            piece(&mut stream).await
        })
    });
    let (acknowledge, mut fake) = begins.await.unwrap();
    let standing_in = tokio::spawn(acknowledge.stand_in());
    let since = Instant::now();
    // Longer than the server may be silent: nobody has listened to it.
    while since.elapsed() < receive_timeout * 3 {
        assert_eq!(fake.status().await.flushed, START + 60);
    }
    fake.send(&wal(START + 100, &[7; 100])).await;
    go_on.send(()).unwrap();
    let (length, _) = tokio::task::spawn_blocking(|| reader.join().unwrap()).await.unwrap();
    assert_eq!(length, 100);
    drop(fake);
    standing_in.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_nothing_is_given_up_although_somebody_stands_in() {
    let (mut stream, fake) = streaming(50, Duration::ZERO).await;
    let standing_in = tokio::spawn(stream.acknowledge().stand_in());
    let ended = tokio::time::timeout(Duration::from_mins(10), stream.next()).await;
    let error = ended.unwrap().unwrap_err();
    assert!(error.is(code::replication::UNREACHABLE), "{error}");
    standing_in.await.unwrap();
    drop(fake);
}
