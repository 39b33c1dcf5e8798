//! A network that is far away: passes everything on, each byte after half of the round trip's time, in both directions and
//! as fast as it came.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use crate::relay::relay;

const PORT: u16 = 9002;

/// The near end of it; it lives as long as the process.
#[derive(Debug, Clone, Copy)]
pub struct Distance {
    address: SocketAddrV4,
}

impl Distance {
    /// Between its caller and a server.
    pub fn before(server: SocketAddr, round_trip: Duration) -> Distance {
        let address = relay(PORT, server, move |there, back| {
            carry(there, round_trip / 2);
            carry(back, round_trip / 2);
        });
        Distance { address }
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// One direction, with one thread that notes when something came and one that hands it on when it is due.
fn carry([mut from, mut to]: [TcpStream; 2], delay: Duration) {
    let (came, comes) = channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; 256 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if came.send((Instant::now() + delay, buffer[..length].to_vec())).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (due, bytes) in comes {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        // Closed already is as good.
        to.shutdown(Shutdown::Both).ok();
    });
}
