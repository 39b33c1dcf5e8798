//! A port of the cluster on the machine's own loopback, so that programs outside reach a Service.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use super::namespace::Namespace;
use crate::background::Background;
use crate::place::tree;

/// It ends with the value.
#[derive(Debug)]
pub struct Forward {
    _process: Background,
    address: SocketAddrV4,
}

impl Forward {
    /// Forwards a port of a Service of this namespace.
    #[track_caller]
    pub fn to(namespace: &Namespace, service: &str, port: u16) -> Forward {
        // Whoever listened here a moment ago was this function.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, free);
        let log = format!("forward-{service}");
        let mut process = if namespace.node().is_ours() {
            let found = namespace.get(&format!("service/{service}"));
            let target = format!("{}:{port}", found["spec"]["clusterIP"].as_str().unwrap());
            let mut command = Command::new(tree("e2e/kubernetes/forward"));
            command.args([&free.to_string(), &target]);
            Background::start(command, &namespace.scratch().path(&log))
        } else {
            let (service, ports) = (format!("service/{service}"), format!("{free}:{port}"));
            namespace.start(&log, &["port-forward", &service, &ports])
        };
        process.until("the port is forwarded", Duration::from_secs(30), || {
            TcpStream::connect(address).ok()
        });
        Forward {
            _process: process,
            address,
        }
    }

    /// Where it is reached.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }
}
