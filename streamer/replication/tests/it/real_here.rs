//! Reading on the spot from real servers: the same bytes in the same order, whoever reads, and every end as it is told
//! elsewhere.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use hardstorage_e2e::Cluster;
use hardstorage_replication::{Connection, ReplicationStream, StreamEvent, StreamOptions};
use hardstorage_report::{Error, Lsn, Result, SegmentName, SegmentSize, Timeline, code};
use rcgen::PKCS_ECDSA_P256_SHA256;

use crate::certificates::Authority;
use crate::login::{log_in, tls_server};
use crate::real_slot::{connection, lsn};

const SIZE: SegmentSize = SegmentSize::DEFAULT;
const LIMIT: Duration = Duration::from_millis(2);

/// Reads on the spot while something comes there, as a stream does that commits wait for.
struct Reader {
    stream: ReplicationStream,
    here: usize,
    by_the_runtime: usize,
    /// The end of what was received.
    end: Lsn,
}

impl Reader {
    fn new(stream: ReplicationStream) -> Reader {
        Reader {
            stream,
            here: 0,
            by_the_runtime: 0,
            end: Lsn::INVALID,
        }
    }

    async fn next(&mut self) -> Result<Option<StreamEvent>> {
        if let Some(event) = self.stream.next_here(LIMIT) {
            self.here += 1;
            return Ok(Some(event));
        }
        self.by_the_runtime += 1;
        self.stream.next().await
    }

    /// Receives until `end`, byte after byte, and acknowledges it.
    async fn until(&mut self, from: Lsn, end: Lsn) -> Vec<u8> {
        let mut received = Vec::new();
        while from.add(received.len() as u64) < end {
            match self.next().await.unwrap() {
                Some(StreamEvent::Data { lsn, bytes, .. }) => {
                    assert_eq!(lsn, from.add(received.len() as u64));
                    received.extend_from_slice(&bytes);
                    self.end = from.add(received.len() as u64);
                    self.stream.acknowledge().set(self.end, self.end);
                }
                Some(StreamEvent::Keepalive { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        received
    }

    async fn ends(&mut self) -> Result<Option<StreamEvent>> {
        loop {
            match self.next().await {
                Ok(Some(StreamEvent::Data { lsn, bytes, .. })) => {
                    let safe = lsn.add(bytes.len() as u64);
                    self.stream.acknowledge().set(safe, safe);
                }
                Ok(Some(StreamEvent::Keepalive { .. })) => {}
                ended => return ended,
            }
        }
    }

    async fn fails(&mut self) -> Error {
        self.ends().await.unwrap_err()
    }
}

async fn start(cluster: &Cluster) -> (Reader, Lsn) {
    start_over(connection(cluster).await).await
}

async fn start_over(mut connection: Connection) -> (Reader, Lsn) {
    let from = connection.identify().await.unwrap().flush_lsn.segment_start(SIZE);
    let stream = connection.start_replication(None, from, Timeline(1), StreamOptions::default());
    (Reader::new(stream.await.unwrap()), from)
}

fn segment_on_disk(cluster: &Cluster, start: Lsn) -> Vec<u8> {
    let name = SegmentName::containing(Timeline(1), start, SIZE);
    fs::read(cluster.data().join("pg_wal").join(name.to_string())).unwrap()
}

/// A synchronous standby's whole life, also beside a pump that runs at the same time.
async fn commits_one_after_the_other() {
    let cluster = Arc::new(Cluster::builder(18).start());
    let (mut reader, from) = start(&cluster).await;
    cluster.sql("CREATE TABLE t (n int, padding text)");
    let writes = Arc::clone(&cluster);
    let writer = std::thread::spawn(move || {
        writes.sql(
            "DO $$ BEGIN FOR n IN 1..2000 LOOP INSERT INTO t VALUES (n, repeat('x', 300)); COMMIT; END LOOP; END $$",
        );
        writes.sql("CREATE TABLE flood AS SELECT g, repeat('y', 500) FROM generate_series(1, 20000) g");
        writes.sql("SELECT pg_switch_wal()");
    });
    let received = reader.until(from, from.add(SIZE.bytes())).await;
    writer.join().unwrap();
    assert!(
        received.starts_with(&segment_on_disk(&cluster, from)),
        "the segment differs"
    );
    assert!(
        reader.here > 100,
        "{} on the spot, {} by the runtime",
        reader.here,
        reader.by_the_runtime
    );
    // The connection takes the next command.
    let mut connection = reader.stream.finish().await.unwrap();
    assert_eq!(connection.identify().await.unwrap().timeline, Timeline(1));
}

#[tokio::test]
async fn the_same_bytes_alone_on_a_thread() {
    commits_one_after_the_other().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_bytes_beside_a_pump_that_reads_too() {
    commits_one_after_the_other().await;
}

/// What TLS has in its hand is nothing to be read past it, and a Unix socket is read as TCP is.
#[tokio::test]
async fn the_same_bytes_by_tls_and_by_a_unix_socket() {
    let authority = Authority::new("servers", &PKCS_ECDSA_P256_SHA256);
    let cluster = tls_server(18, |address| authority.issue("server", &[address]), &authority.pem);
    cluster.sql("CREATE TABLE t (n int)");
    let (address, sockets) = (cluster.address().ip().to_string(), cluster.sockets());
    for keywords in [
        format!("hostaddr={address} user=sslonly password=secret sslmode=require"),
        format!("host={} user=postgres", sockets.display()),
    ] {
        let connection = Connection::from_wire(log_in(&keywords).await.unwrap().wire).unwrap();
        let (mut reader, from) = start_over(connection).await;
        for _ in 0..50 {
            cluster.sql("INSERT INTO t SELECT generate_series(1, 10)");
            let end = lsn(&cluster.value("SELECT pg_current_wal_flush_lsn()"));
            let received = reader.until(from.max(reader.end), end).await;
            let at = (from.max(reader.end).0 - received.len() as u64 - from.0) as usize;
            let on_disk = segment_on_disk(&cluster, from);
            assert!(on_disk[at..].starts_with(&received), "{keywords}");
        }
        reader.stream.finish().await.unwrap();
    }
}

#[tokio::test]
async fn a_shutdown_a_promotion_and_a_crash_are_told() {
    let mut primary = Cluster::builder(18).start();
    let mut standby = primary.standby();
    let (mut promoted, _) = start(&standby).await;
    primary.sql("CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g");
    let (mut stopped, _) = start(&primary).await;
    let stopping = std::thread::spawn(move || {
        primary.stop();
        primary
    });
    assert_eq!(stopped.ends().await.unwrap(), Some(StreamEvent::ServerShutdown));
    assert_eq!(stopped.next().await.unwrap(), None);
    drop(stopping.join().unwrap());

    let promoting = std::thread::spawn(move || {
        standby.promote();
        standby
    });
    let ended = promoted.ends().await.unwrap();
    assert!(
        matches!(ended, Some(StreamEvent::EndOfTimeline { next: Timeline(2), .. })),
        "{ended:?}"
    );
    let mut standby = promoting.join().unwrap();
    let connection = promoted.stream.finish().await.unwrap();
    let from = lsn(&standby.insert_lsn()).segment_start(SIZE);
    let stream = connection.start_replication(None, from, Timeline(2), StreamOptions::default());
    let mut crashed = Reader::new(stream.await.unwrap());
    crashed.until(from, lsn(&standby.insert_lsn())).await;
    standby.kill();
    let error = crashed.fails().await;
    assert!(error.is(code::replication::UNREACHABLE), "{error:?}");
}

/// What the server asks for is answered at once, although it was read on the spot.
#[tokio::test]
async fn an_idle_server_hears_from_us() {
    let cluster = Cluster::builder(18).set("wal_sender_timeout", "1s").start();
    let (mut reader, _) = start(&cluster).await;
    let sender = "SELECT pid FROM pg_stat_replication";
    let pid = cluster.value(sender);
    let mut answers = 0;
    while answers < 8 {
        match reader.next().await.unwrap() {
            Some(StreamEvent::Keepalive { .. }) => answers += 1,
            Some(StreamEvent::Data { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(cluster.value(sender), pid);
    reader.stream.finish().await.unwrap();
}
