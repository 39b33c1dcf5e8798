//! etcd, one node of it: where Patroni keeps its lock, its configuration and its history.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::background::Background;
use crate::http;
use crate::place::{cached, free_loopback};
use crate::scratch::{Scratch, unprivileged};

const PATIENCE: Duration = Duration::from_mins(1);
const CLIENTS: u16 = 2379;
const PEERS: u16 = 2380;
/// `/service/ledger/leader`, as the gateway takes it.
const LOCK: &str = "L3NlcnZpY2UvbGVkZ2VyL2xlYWRlcg==";

/// A running etcd.
#[derive(Debug)]
pub struct Etcd {
    /// First, so that it ends before its directory goes.
    server: Background,
    address: Ipv4Addr,
    scratch: Scratch,
}

impl Etcd {
    /// Starts one.
    pub fn start() -> Etcd {
        let scratch = Scratch::new();
        let address = free_loopback(CLIENTS);
        let mut etcd = Etcd {
            server: Background::start(command(address, &scratch), &scratch.path("etcd")),
            address,
            scratch,
        };
        etcd.until_ready();
        etcd
    }

    /// Where Patroni reaches it.
    pub fn socket(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, CLIENTS)
    }

    /// Ends it as a power cut would, and starts it again over the same data after `pause`.
    pub fn cut(&mut self, pause: Duration) {
        self.server.kill();
        thread::sleep(pause);
        self.server = Background::start(command(self.address, &self.scratch), &self.scratch.path("etcd"));
        self.until_ready();
    }

    /// Ends the leader's lock now, as its time would if nobody renewed it.
    #[track_caller]
    pub fn end_lock(&self) {
        let lease = |answer: Value| answer["kvs"][0]["lease"].as_str().map(str::to_owned);
        if let Some(lease) = lease(self.ask("/v3/kv/range", &json!({"key": LOCK}))) {
            self.ask("/v3/lease/revoke", &json!({"ID": lease}));
        }
    }

    #[track_caller]
    fn ask(&self, path: &str, question: &Value) -> Value {
        let answer = http::send(self.socket(), "POST", path, question, PATIENCE);
        let (status, said) = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(status == 200, "{path}: {status} {said}");
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    fn until_ready(&mut self) {
        let socket = self.socket();
        self.server.until("etcd answers", PATIENCE, || {
            let (status, _) = http::get(socket, "/health").ok()?;
            (status == 200).then_some(())
        });
    }
}

fn command(address: Ipv4Addr, scratch: &Scratch) -> Command {
    let url = |port: u16| format!("http://{}", SocketAddrV4::new(address, port));
    let mut command = unprivileged(cached("bin/etcd", "fetch-servers etcd"));
    command.arg("--data-dir").arg(scratch.path("data"));
    command.args([
        "--listen-client-urls",
        &url(CLIENTS),
        "--advertise-client-urls",
        &url(CLIENTS),
    ]);
    command.args([
        "--listen-peer-urls",
        &url(PEERS),
        "--initial-advertise-peer-urls",
        &url(PEERS),
    ]);
    command.arg(format!("--initial-cluster=default={}", url(PEERS)));
    // What a killed process has written stays written; only a machine that loses its power would need the flush.
    command.args(["--unsafe-no-fsync", "--log-level=warn"]);
    command
}
