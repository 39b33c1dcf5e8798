//! The near end of a network between a program and a server: accepts what the program connects, and connects to the server.

use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::thread;

use crate::place::free_loopback;

/// Gives `carry` both ends of each connection, twice, so that each direction can have its own. Where it listens; it lives
/// as long as the process.
pub fn relay(
    port: u16,
    server: SocketAddr,
    mut carry: impl FnMut([TcpStream; 2], [TcpStream; 2]) + Send + 'static,
) -> SocketAddrV4 {
    let address = SocketAddrV4::new(free_loopback(port), port);
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for client in listener.incoming().filter_map(Result::ok) {
            let Ok(up) = TcpStream::connect(server) else { continue };
            // Without this the kernel adds a delay of its own.
            if client.set_nodelay(true).and(up.set_nodelay(true)).is_err() {
                continue;
            }
            if let (Ok(from), Ok(to)) = (client.try_clone(), up.try_clone()) {
                carry([from, to], [up, client]);
            }
        }
    });
    address
}
