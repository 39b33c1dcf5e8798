//! Between us and the object store: passes everything on, until it is told to be a bad network or a store that is unwell.
//!
//! A trouble ends by itself after its time. While there is one, a part of the requests meets it and each has a connection
//! of its own; connections from before the trouble are cut, in a stall they stand still.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::dice::Dice;
use super::ledger::held;
use crate::place::free_loopback;

const PORT: u16 = 9001;
/// Most of the requests: some get through, so that what follows them is met as well.
const SOME: u64 = 6;

/// What a request meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing moves.
    Stall,
    /// 500 InternalError.
    InternalError,
    /// 503 SlowDown.
    SlowDown,
    /// An answer that begins with 200 and holds an error, where S3 does that: the completion of an upload, and listings.
    ErrorIn200,
    /// The store does as it was asked, and its answer breaks off; at once, or somewhere.
    CutAnswer,
    /// The store gets a part of the request.
    CutRequest,
}

#[derive(Debug)]
struct Now {
    trouble: Option<(Trouble, Instant)>,
    /// How many of ten requests meet it.
    of_ten: u64,
    dice: Dice,
}

#[derive(Debug)]
struct Shared {
    now: Mutex<Now>,
    /// Counts troubles: connections of an earlier number are cut.
    era: AtomicU64,
    /// Counts the requests that met one.
    met: AtomicU64,
}

/// The proxy.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// In front of a server; it lives as long as the process.
    pub fn before(server: SocketAddr, dice: Dice) -> Proxy {
        let address = SocketAddrV4::new(free_loopback(PORT), PORT).into();
        let listener = TcpListener::bind(address).unwrap();
        let now = Mutex::new(Now {
            trouble: None,
            of_ten: SOME,
            dice,
        });
        let shared = Arc::new(Shared {
            now,
            era: AtomicU64::new(0),
            met: AtomicU64::new(0),
        });
        let proxy = Proxy {
            address,
            shared: shared.clone(),
        };
        thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                let shared = shared.clone();
                // An error is a connection that ended, which both sides see by themselves.
                thread::spawn(move || serve(client, server, &shared).ok());
            }
        });
        proxy
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Begins a trouble.
    pub fn trouble(&self, trouble: Trouble, time: Duration) {
        self.begin(trouble, time, SOME);
    }

    /// Begins one that no request gets through.
    pub fn outage(&self, trouble: Trouble, time: Duration) {
        self.begin(trouble, time, 10);
    }

    fn begin(&self, trouble: Trouble, time: Duration, of_ten: u64) {
        let mut now = held(&self.shared.now);
        (now.trouble, now.of_ten) = (Some((trouble, Instant::now() + time)), of_ten);
        drop(now);
        if trouble != Trouble::Stall {
            self.shared.era.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// How many requests have met a trouble.
    pub fn met(&self) -> u64 {
        self.shared.met.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub fn heal(&self) {
        held(&self.shared.now).trouble = None;
    }
}

impl Shared {
    /// The trouble of now.
    fn trouble(&self) -> Option<Trouble> {
        let now = held(&self.now);
        now.trouble
            .filter(|(_, until)| Instant::now() < *until)
            .map(|(trouble, _)| trouble)
    }

    fn dice(&self) -> Dice {
        held(&self.now).dice.split()
    }

    fn until_it_moves(&self) {
        if self.trouble() == Some(Trouble::Stall) {
            self.met.fetch_add(1, Ordering::Relaxed);
        }
        while self.trouble() == Some(Trouble::Stall) {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn serve(mut client: TcpStream, server: SocketAddr, shared: &Arc<Shared>) -> io::Result<()> {
    let era = shared.era.load(Ordering::Acquire);
    let mut head = Vec::new();
    // Byte by byte is slow, and leaves the body where it is.
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    shared.until_it_moves();
    let mut dice = shared.dice();
    let now = shared.trouble();
    let of_ten = held(&shared.now).of_ten;
    let trouble = now.filter(|_| dice.number(0..=9) < of_ten);
    let head_text = String::from_utf8_lossy(&head).into_owned();
    let canned = match trouble {
        Some(Trouble::InternalError) => Some((500, "Internal Server Error", "InternalError")),
        Some(Trouble::SlowDown) => Some((503, "Slow Down", "SlowDown")),
        Some(Trouble::ErrorIn200) if holds_errors(&head_text) => Some((200, "OK", "InternalError")),
        _ => None,
    };
    let (request, reply) = match trouble {
        Some(Trouble::CutRequest) => (Some(dice.number(0..=100_000)), None),
        Some(Trouble::CutAnswer) if dice.coin() => (None, Some(0)),
        Some(Trouble::CutAnswer) => (None, Some(dice.number(0..=5_000))),
        _ => (None, None),
    };
    if canned.is_some() || request.is_some() || reply.is_some() {
        shared.met.fetch_add(1, Ordering::Relaxed);
    }
    if let Some((status, reason, code)) = canned {
        // Read first: a client that is still sending would see a connection reset in place of the answer.
        io::copy(&mut (&mut client).take(body_length(&head_text)), &mut io::sink())?;
        return answer(client, status, reason, code);
    }
    let mut up = TcpStream::connect(server)?;
    if now.is_some() {
        // The next request comes with another connection, and is judged anew.
        head.truncate(head.len() - 2);
        head.extend_from_slice(b"Connection: close\r\n\r\n");
    }
    up.write_all(&head)?;
    let (mut from, mut to) = (client.try_clone()?, up.try_clone()?);
    let upward = shared.clone();
    thread::spawn(move || relay(&mut from, &mut to, request, &upward, era));
    relay(&mut up, &mut client, reply, shared, era)
}

/// Whether S3 may answer this with 200 before it knows how it ends, or in a form that an error fits into.
fn holds_errors(head: &str) -> bool {
    let line = head.lines().next().unwrap_or_default();
    (line.starts_with("POST") && line.contains("uploadId="))
        || (line.starts_with("GET") && line.contains("list-type=2"))
}

fn body_length(head: &str) -> u64 {
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    let length = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
}

fn answer(mut client: TcpStream, status: u16, reason: &str, code: &str) -> io::Result<()> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>trouble</Message>\
         <RequestId>torture</RequestId></Error>"
    );
    write!(
        client,
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Copies until one side ends, the limit is reached or another era begins; then both sides are closed.
fn relay(from: &mut TcpStream, to: &mut TcpStream, limit: Option<u64>, shared: &Shared, era: u64) -> io::Result<()> {
    let mut left = limit.unwrap_or(u64::MAX);
    let mut buffer = vec![0; 64 << 10];
    let copied = loop {
        let most = buffer.len().min(left.min(1 << 20) as usize);
        if most == 0 {
            // All that may pass has passed: wait for what would come next, so that the other side has done its work.
            let waited = from.read(&mut buffer);
            break waited.map(drop);
        }
        match from.read(&mut buffer[..most]) {
            Ok(0) => break Ok(()),
            Ok(length) => {
                shared.until_it_moves();
                if shared.era.load(Ordering::Acquire) != era {
                    break Ok(());
                }
                if let Err(error) = to.write_all(&buffer[..length]) {
                    break Err(error);
                }
                left -= length as u64;
            }
            Err(error) => break Err(error),
        }
    };
    for side in [from, to] {
        // Closed already is as good.
        side.shutdown(Shutdown::Both).ok();
    }
    copied
}
