//! A server whose answers are held back behind the beginning of a stream: nothing has been received, so nothing may be
//! acknowledged. A new slot keeps WAL from now on, and the stream asks for older WAL that the server may still have; an
//! acknowledgement of where it asks from would move the slot back there, and if that WAL is gone no later try would find
//! another place to go on.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hardstorage_e2e::{Cluster, Ledger, free_loopback};

use crate::site::{PATIENCE, Site, fill_segment, step};

const PORT: u16 = 5432;
/// The server agrees to stream.
const COPY_BOTH: u8 = b'W';
const SLOT: &str = "pg_hardstorage_db1";

/// Passes everything on but what the server says behind its agreement to stream, while that is held back.
struct Between {
    address: SocketAddrV4,
    holds: Arc<AtomicBool>,
}

impl Between {
    fn and(server: SocketAddrV4) -> Between {
        let address = SocketAddrV4::new(free_loopback(PORT), PORT);
        let listener = TcpListener::bind(address).unwrap();
        let holds = Arc::new(AtomicBool::new(true));
        let hold = holds.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(server).unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || {
                    std::io::copy(&mut from, &mut to)?;
                    // The server has to see that the client is gone, else its slot stays in use.
                    to.shutdown(Shutdown::Write)
                });
                let hold = hold.clone();
                thread::spawn(move || answers(server, client, &hold));
            }
        });
        Between { address, holds }
    }
}

/// Message by message, until one side is gone.
fn answers(mut server: TcpStream, mut client: TcpStream, hold: &AtomicBool) -> std::io::Result<()> {
    let mut head = [0; 5];
    loop {
        server.read_exact(&mut head)?;
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
        let mut body = vec![0; length - 4];
        server.read_exact(&mut body)?;
        client.write_all(&head)?;
        client.write_all(&body)?;
        if head[0] == COPY_BOTH && hold.load(Ordering::Acquire) {
            // Until the connection is given up: what the server still says is lost with it.
            std::io::copy(&mut server, &mut std::io::sink())?;
        }
    }
}

#[test]
fn nothing_is_acknowledged_before_anything_was_received() {
    // It still has the older WAL: else it would answer with an error, and the end of the connection cannot be held back.
    let source = Cluster::builder(18)
        .wal_segment_size(1)
        .set("wal_keep_size", "64MB")
        .start();
    let site = Site::streamed_once(&source);

    step("another slot, which keeps nothing of what the stream lacks");
    source.sql(&format!("SELECT pg_drop_replication_slot('{SLOT}')"));
    for _ in 0..3 {
        fill_segment(&source, "while nobody streams");
    }
    source.sql("CHECKPOINT");
    source.sql(&format!("SELECT pg_create_physical_replication_slot('{SLOT}', true)"));
    let kept = || {
        source.value(&format!(
            "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = '{SLOT}'"
        ))
    };
    let begins = kept();

    step("the stream has said where it is, and has received nothing");
    let between = Between::and(source.address());
    // What is read between the two has frames from the first byte on.
    let connection = format!(
        "postgres://pgbackup:pgbackup@{}/postgres?sslmode=disable",
        between.address
    );
    let mut stream = site.start_stream("held", &connection, &["--status-interval", "1s"]);
    stream.process.until("a status has reached the server", PATIENCE, || {
        let heard = "SELECT 1 FROM pg_stat_replication WHERE reply_time IS NOT NULL AND state IS NOT NULL";
        source.try_value(heard).ok()
    });
    assert_eq!(kept(), begins, "the slot was moved back");

    step("with answers it goes on, and nothing is missing");
    between.holds.store(false, Ordering::Release);
    drop(stream);
    let mut stream = site.stream("after", &connection, &[]);
    let everything = Ledger::add(&source, "after", 100);
    stream.until_durable(&source);
    stream.stop();
    assert_eq!(site.latest("latest"), everything);
}
