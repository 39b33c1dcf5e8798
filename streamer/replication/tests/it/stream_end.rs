//! The three ways in which a stream ends in order: the timeline's end, the server's shutdown, our own stop.

use hardstorage_replication::{Connection, ReplicationStream, StreamEvent, StreamOptions};
use hardstorage_report::{Lsn, Timeline, code};

use crate::fake::{Fake, complete, connected, copy_data, copy_done, error, fatal, ready, row, wal};

const START: u64 = 0x300_0000;

async fn start(connection: Connection, fake: &mut Fake) -> ReplicationStream {
    let start = connection.start_replication(Some("db1"), Lsn(START), Timeline(1), StreamOptions::default());
    let (_, stream) = tokio::join!(fake.stream("1min"), start);
    stream.unwrap()
}

fn next_timeline() -> Vec<u8> {
    [
        row(&[Some("2"), Some("0/3000064")]),
        complete("START_STREAMING"),
        complete("START_REPLICATION"),
        ready(),
    ]
    .concat()
}

async fn usable(mut connection: Connection, fake: &mut Fake) {
    let answer = row(&[Some("replica")]);
    let (_, shown) = tokio::join!(fake.answer("SHOW wal_level", &answer), connection.show("wal_level"));
    assert_eq!(shown.unwrap(), "replica");
}

#[tokio::test]
async fn at_the_end_of_a_timeline_both_sides_are_done_and_the_next_is_named() {
    let (connection, mut fake) = connected().await;
    let mut stream = start(connection, &mut fake).await;
    stream.acknowledge().set(Lsn(START + 100), Lsn(START + 100));
    let server = async {
        fake.send(&[wal(START, &[7; 100]), copy_done()].concat()).await;
        let statuses = fake.until_copy_done().await;
        assert_eq!(statuses.last().unwrap().flushed, START + 100);
        fake.send(&next_timeline()).await;
    };
    let client = async {
        assert!(matches!(stream.next().await.unwrap(), Some(StreamEvent::Data { .. })));
        let end = StreamEvent::EndOfTimeline {
            next: Timeline(2),
            at: Lsn(START + 100),
        };
        assert_eq!(stream.next().await.unwrap(), Some(end));
        assert_eq!(stream.next().await.unwrap(), None);
        assert_eq!(stream.next().await.unwrap(), None);
        stream.finish().await.unwrap()
    };
    let ((), connection) = tokio::join!(server, client);
    usable(connection, &mut fake).await;
}

#[tokio::test]
async fn a_timeline_that_ends_where_we_begin_has_no_copy() {
    let (connection, mut fake) = connected().await;
    let script = async {
        fake.answer("SHOW", &row(&[Some("1min")])).await;
        fake.expect("START_REPLICATION").await;
        fake.send(&next_timeline()).await;
    };
    let begin = connection.start_replication(None, Lsn(START + 100), Timeline(1), StreamOptions::default());
    let ((), stream) = tokio::join!(script, begin);
    let mut stream = stream.unwrap();
    let end = StreamEvent::EndOfTimeline {
        next: Timeline(2),
        at: Lsn(START + 100),
    };
    assert_eq!(stream.next().await.unwrap(), Some(end));
    assert_eq!(stream.next().await.unwrap(), None);
    usable(stream.finish().await.unwrap(), &mut fake).await;
}

#[tokio::test]
async fn a_shutdown_of_the_server_is_an_end_in_order() {
    let (connection, mut fake) = connected().await;
    let mut stream = start(connection, &mut fake).await;
    fake.send(&[wal(START, &[7; 100]), complete("COPY 0")].concat()).await;
    drop(fake);
    assert!(matches!(stream.next().await.unwrap(), Some(StreamEvent::Data { .. })));
    assert_eq!(stream.next().await.unwrap(), Some(StreamEvent::ServerShutdown));
    assert_eq!(stream.next().await.unwrap(), None);
    let gone = stream.finish().await.unwrap_err();
    assert!(gone.is(code::replication::UNREACHABLE), "{gone:?}");
}

#[tokio::test]
async fn a_stop_tells_what_is_safe_and_gives_the_connection_back() {
    let (connection, mut fake) = connected().await;
    let mut stream = start(connection, &mut fake).await;
    fake.send(&wal(START, &[7; 100])).await;
    stream.next().await.unwrap();
    stream.acknowledge().set(Lsn(START + 100), Lsn(START + 60));
    let server = async {
        let last = *fake.until_copy_done().await.last().unwrap();
        assert_eq!((last.written, last.flushed), (START + 100, START + 60));
        // What was on its way is not an event any more, and is not waited for.
        fake.send(&[wal(START + 100, &[8; 1000]), copy_done()].concat()).await;
        fake.send(&[complete("START_STREAMING"), complete("START_REPLICATION"), ready()].concat())
            .await;
    };
    let ((), connection) = tokio::join!(server, stream.finish());
    usable(connection.unwrap(), &mut fake).await;
}

#[tokio::test]
async fn a_stop_leaves_what_was_received_to_the_consumer() {
    let (connection, mut fake) = connected().await;
    let mut stream = start(connection, &mut fake).await;
    fake.send(&wal(START, b"abc")).await;
    fake.send(&wal(START + 3, b"def")).await;
    // The first event proves that the second is in the same read.
    let mut got = Vec::new();
    let Some(StreamEvent::Data { bytes, .. }) = stream.next().await.unwrap() else {
        panic!("no data");
    };
    got.extend_from_slice(&bytes);
    let Some(StreamEvent::Data { bytes, .. }) = stream.next().await.unwrap() else {
        panic!("no data");
    };
    got.extend_from_slice(&bytes);
    stream.stop();
    let server = async {
        fake.until_copy_done().await;
        fake.send(&[wal(START + 6, b"ghi"), copy_done(), complete("COPY 0"), ready()].concat())
            .await;
    };
    let client = async {
        assert_eq!(stream.next().await.unwrap(), None, "nothing comes after the stop");
        stream.finish().await
    };
    let ((), connection) = tokio::join!(server, client);
    assert_eq!(got, b"abcdef");
    usable(connection.unwrap(), &mut fake).await;
}

#[tokio::test]
async fn ends_that_make_no_sense() {
    let no_row = [copy_done(), complete("START_REPLICATION"), ready()].concat();
    let no_number = [copy_done(), row(&[Some("two"), Some("0/0")]), ready()].concat();
    let a_null = [copy_done(), row(&[None, None]), ready()].concat();
    for end in [no_row, no_number, a_null] {
        let (connection, mut fake) = connected().await;
        let mut stream = start(connection, &mut fake).await;
        fake.send(&end).await;
        let error = stream.next().await.unwrap_err();
        assert!(error.is(code::replication::PROTOCOL), "{error:?}");
    }
    for (end, expected) in [
        ([copy_done(), copy_data(b"k")].concat(), code::replication::PROTOCOL),
        ([copy_done(), error("XX000", "no")].concat(), code::replication::SERVER),
        (
            [copy_done(), fatal("57P02", "crash")].concat(),
            code::replication::UNREACHABLE,
        ),
        (copy_done(), code::replication::UNREACHABLE),
    ] {
        let (connection, mut fake) = connected().await;
        let mut stream = start(connection, &mut fake).await;
        fake.send(&end).await;
        fake.until_copy_done().await;
        drop(fake);
        let error = stream.next().await.unwrap_err();
        assert!(error.is(expected), "{error:?}");
    }
}
