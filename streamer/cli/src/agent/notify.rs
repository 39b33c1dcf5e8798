//! What a service manager is told, if one asks (`Type=notify`, `WatchdogSec=`): that the agent is ready, that it reads
//! its configuration anew, that it stops, and again and again that its loop moves. A datagram each, as `sd_notify(3)`.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The service manager of this process, if there is one.
#[derive(Debug)]
pub(crate) struct Manager(Option<UnixDatagram>);

impl Manager {
    /// The one that the environment names.
    pub(crate) fn of_process() -> Manager {
        Manager(std::env::var("NOTIFY_SOCKET").ok().and_then(|name| connect(&name)))
    }

    /// Tells it something. A manager that does not listen is no reason to end.
    pub(crate) fn tell(&self, state: &str) {
        if let Some(socket) = &self.0
            && let Err(error) = socket.send(state.as_bytes())
        {
            tracing::debug!(%error, "the service manager was not told");
        }
    }
}

fn connect(name: &str) -> Option<UnixDatagram> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name).ok()?,
        None => SocketAddr::from_pathname(name).ok()?,
    };
    let socket = UnixDatagram::unbound().ok()?;
    // A manager that is busy must not hold up the loop.
    socket.set_nonblocking(true).ok()?;
    socket.connect_addr(&address).ok()?;
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_and_nobody_need_listen() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let told = Manager(connect(path.to_str().unwrap()));
        told.tell("READY=1");
        let mut buffer = [0; 32];
        let length = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
        drop(manager);
        told.tell("STOPPING=1");
        assert!(connect("/no/such/place").is_none());
    }
}
