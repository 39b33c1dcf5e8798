//! A network that can be shut: passes everything on until the server has said so many bytes, and then nothing more until
//! it is opened. So a transfer stands still in its middle, however fast or slow the machine is.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::relay::relay;

const PORT: u16 = 9003;

/// The near end of it; it lives as long as the process.
#[derive(Debug, Clone)]
pub struct Tap {
    address: SocketAddrV4,
    valve: Arc<Valve>,
}

#[derive(Debug)]
struct Valve {
    passed: AtomicU64,
    limit: AtomicU64,
}

impl Tap {
    /// Between its caller and a server; open.
    pub fn before(server: SocketAddr) -> Tap {
        let valve = Arc::new(Valve {
            passed: AtomicU64::new(0),
            limit: AtomicU64::new(u64::MAX),
        });
        let own = valve.clone();
        let address = relay(PORT, server, move |there, back| {
            own.clone().carry(there, false);
            own.clone().carry(back, true);
        });
        Tap { address, valve }
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Shuts it when the server has said so many bytes more.
    pub fn shut_after(&self, bytes: u64) {
        let limit = self.valve.passed.load(Ordering::SeqCst) + bytes;
        self.valve.limit.store(limit, Ordering::SeqCst);
    }

    /// Whether it is shut now.
    pub fn is_shut(&self) -> bool {
        self.valve.is_shut()
    }

    /// Opens it.
    pub fn open(&self) {
        self.valve.limit.store(u64::MAX, Ordering::SeqCst);
    }
}

impl Valve {
    fn is_shut(&self) -> bool {
        self.passed.load(Ordering::SeqCst) >= self.limit.load(Ordering::SeqCst)
    }

    fn carry(self: Arc<Self>, [mut from, mut to]: [TcpStream; 2], answers: bool) {
        thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                while answers && self.is_shut() {
                    thread::sleep(Duration::from_millis(10));
                }
                if to.write_all(&buffer[..length]).is_err() {
                    break;
                }
                if answers {
                    self.passed.fetch_add(length as u64, Ordering::SeqCst);
                }
            }
            // Closed already is as good.
            to.shutdown(Shutdown::Both).ok();
        });
    }
}
