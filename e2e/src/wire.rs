//! A network between the product and a server that breaks: it passes bytes on until so many have gone one way, and then the
//! connection ends or nothing moves any more. Which bytes they are it does not know, so it stands before any server.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::relay::relay;

const PORT: u16 = 9003;

/// How it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// Both sides see the end of the connection.
    Cut,
    /// Nothing moves, and nobody is told, until it heals: then the connection ends.
    Silence,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the product to the server.
    There,
    /// From the server to the product.
    Back,
}

#[derive(Debug, Default)]
struct State {
    /// How it breaks, when so many more bytes have gone this way.
    plan: Option<(Break, Way, usize)>,
    /// Whether it is silent.
    silent: bool,
    /// How often it has broken.
    broken: usize,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The near end of it; it lives as long as the process.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddrV4,
    shared: Arc<Shared>,
}

impl Wire {
    /// Between its caller and a server.
    pub fn before(server: SocketAddr) -> Wire {
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        let address = relay(PORT, server, move |there, back| {
            for (ends, way) in [(there, Way::There), (back, Way::Back)] {
                let shared = own.clone();
                thread::spawn(move || shared.carry(ends, way));
            }
        });
        Wire { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Breaks when so many more bytes have gone this way, over all connections.
    pub fn break_after(&self, how: Break, way: Way, bytes: usize) {
        self.shared.state().plan = Some((how, way, bytes));
    }

    /// How often it has broken.
    pub fn broken(&self) -> usize {
        self.shared.state().broken
    }

    /// Ends the silence; a plan that was not met is forgotten.
    pub fn heal(&self) {
        let mut state = self.shared.state();
        state.silent = false;
        state.plan = None;
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the bytes may go, how many of them, and whether the connection ends behind them.
    fn pass(&self, way: Way, length: usize) -> (usize, bool) {
        let mut state = self.state();
        let (how, left) = match &mut state.plan {
            Some((how, planned, left)) if *planned == way => (*how, left),
            _ => return (length, self.was_silent(state)),
        };
        if *left > length {
            *left -= length;
            return (length, self.was_silent(state));
        }
        let passes = *left;
        state.plan = None;
        state.broken += 1;
        state.silent = how == Break::Silence;
        (passes, true)
    }

    /// Waits through a silence; true when there was one.
    fn was_silent(&self, mut state: MutexGuard<'_, State>) -> bool {
        let silent = state.silent;
        while state.silent {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        silent
    }

    fn carry(&self, [mut from, mut to]: [TcpStream; 2], way: Way) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let (passes, ends) = self.pass(way, length);
            if to.write_all(&buffer[..passes]).is_err() || ends {
                break;
            }
        }
        self.was_silent(self.state());
        for side in [from, to] {
            // Closed already is as good.
            side.shutdown(Shutdown::Both).ok();
        }
    }
}
