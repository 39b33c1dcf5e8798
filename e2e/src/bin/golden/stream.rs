//! A `wal stream` into a golden repository.

use std::net::SocketAddrV4;
use std::time::Duration;

use hardstorage_e2e::golden::{DEPLOYMENT, Golden};
use hardstorage_e2e::{Background, Cluster, free_loopback, get, lsn};
use serde_json::Value;

const PORT: u16 = 9187;

/// A running one.
pub struct Stream {
    process: Background,
    report: SocketAddrV4,
}

impl Stream {
    /// Starts it and waits until bytes flow.
    pub fn start(golden: &Golden, name: &str, connection: &str, more: &[&str]) -> Stream {
        let report = SocketAddrV4::new(free_loopback(PORT), PORT);
        let listen = report.to_string();
        let words = [
            "wal",
            "stream",
            DEPLOYMENT,
            "--pg-connection",
            connection,
            "--repo",
            &golden.url,
        ];
        let process = golden
            .product
            .start(name, &[&words[..], &["--report-listen", &listen], more].concat());
        let mut stream = Stream { process, report };
        stream.until("it streams", |status| status["phase"] == "streaming");
        stream
    }

    /// Waits for something in its `/status`.
    pub fn until(&mut self, what: &str, is: impl Fn(&Value) -> bool) {
        let report = self.report;
        self.process.until(what, Duration::from_mins(2), || {
            let (_, body) = get(report, "/status").ok()?;
            let status: Value = serde_json::from_str(&body).ok()?;
            is(&status).then_some(())
        });
    }

    /// Waits until everything that the server has flushed is durable.
    pub fn until_durable(&mut self, cluster: &Cluster) {
        let wanted = cluster.value("SELECT pg_current_wal_flush_lsn()");
        self.until(&format!("{wanted} is durable"), |status| {
            status["durable_lsn"]
                .as_str()
                .is_some_and(|durable| lsn(durable) >= lsn(&wanted))
        });
    }

    /// Kills it.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Ends it.
    pub fn stop(mut self) {
        self.process.stop().ok();
    }
}
