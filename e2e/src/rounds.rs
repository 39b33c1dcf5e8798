//! Counts how often a program waits for answers: a network on which every question is held until no other comes, and then
//! all that are held go on at once. That is a round, and what distance costs is the number of rounds, whatever the distance.
//!
//! It knows of HTTP only that a connection carries one question at a time: the first bytes behind an answer begin the
//! next one.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::relay::relay;

const PORT: u16 = 9003;
/// No question for so long: those that are held wait for answers. What is asked together comes within a millisecond, so
/// that a machine under load adds rounds only when it stops a program for so long.
const QUIET: Duration = Duration::from_millis(50);

/// The near end of it; it lives as long as the process.
#[derive(Debug, Clone)]
pub struct Rounds {
    address: SocketAddrV4,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    now: Mutex<Now>,
    opened: Condvar,
}

#[derive(Debug)]
struct Now {
    round: u64,
    last: Instant,
    /// The first line of each question of each round.
    asked: Vec<Vec<String>>,
}

impl Default for Now {
    fn default() -> Now {
        Now {
            round: 0,
            last: Instant::now(),
            asked: Vec::new(),
        }
    }
}

impl Gate {
    fn pass(&self, question: String) {
        let mut now = self.now.lock().unwrap();
        let round = now.round;
        now.last = Instant::now();
        if now.asked.len() as u64 <= round {
            now.asked.push(Vec::new());
        }
        now.asked[round as usize].push(question);
        loop {
            let rest = QUIET.saturating_sub(now.last.elapsed());
            if now.round != round {
                return;
            }
            if rest.is_zero() {
                now.round += 1;
                self.opened.notify_all();
                return;
            }
            now = self.opened.wait_timeout(now, rest).unwrap().0;
        }
    }
}

impl Rounds {
    /// Between its caller and an HTTP server.
    pub fn before(server: SocketAddr) -> Rounds {
        let gate = Arc::<Gate>::default();
        let shared = gate.clone();
        let address = relay(PORT, server, move |there, back| {
            let answered = Arc::new(AtomicBool::new(true));
            let (gate, asked) = (shared.clone(), answered.clone());
            carry(there, move |bytes| {
                if asked.swap(false, Ordering::SeqCst) {
                    gate.pass(first_line(bytes));
                }
            });
            carry(back, move |_| answered.store(true, Ordering::SeqCst));
        });
        Rounds { address, gate }
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked since the last call, a round a line.
    pub fn taken(&self) -> Vec<Vec<String>> {
        let mut now = self.gate.now.lock().unwrap();
        now.round = 0;
        std::mem::take(&mut now.asked)
    }
}

fn first_line(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    String::from_utf8_lossy(line).trim_end_matches(" HTTP/1.1").to_owned()
}

fn carry([mut from, mut to]: [TcpStream; 2], before: impl Fn(&[u8]) + Send + 'static) {
    thread::spawn(move || {
        let mut buffer = vec![0; 256 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            before(&buffer[..length]);
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        // Closed already is as good.
        to.shutdown(Shutdown::Both).ok();
    });
}
