//! A network line to a server that can be cut: whoever connects meanwhile is hung up on. It can be led to another server,
//! as the name of a service is.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use hardstorage_e2e::free_loopback;

const PORT: u16 = 9001;

pub struct Line {
    address: SocketAddr,
    open: Arc<AtomicBool>,
    server: Arc<Mutex<SocketAddr>>,
}

impl Line {
    /// A line to this server. Its thread ends with the test's process.
    pub fn to(server: SocketAddr) -> Line {
        let listener = TcpListener::bind((free_loopback(PORT), PORT)).unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::new(AtomicBool::new(true));
        let is_open = Arc::clone(&open);
        let server = Arc::new(Mutex::new(server));
        let leads_to = Arc::clone(&server);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if is_open.load(Ordering::SeqCst)
                    && let Ok(server) = TcpStream::connect(*leads_to.lock().unwrap())
                {
                    let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                    thread::spawn(move || pass(from, to));
                    thread::spawn(move || pass(server, client));
                }
            }
        });
        Line { address, open, server }
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whoever connects from now on gets to this server.
    pub fn leads_to(&self, server: SocketAddr) {
        *self.server.lock().unwrap() = server;
    }

    /// From now on nobody gets through.
    pub fn cut(&self) {
        self.open.store(false, Ordering::SeqCst);
    }

    /// As before.
    pub fn mend(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // The other end may be gone already.
    to.shutdown(Shutdown::Both).ok();
}
