//! The operator as a process, and what it takes of the machine.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use hardstorage_e2e::Background;

use crate::world::World;

/// Ticks of the kernel's clock in a second, as `/proc` counts: the same on every Linux for twenty years.
const TICKS: u64 = 100;

/// A running operator.
pub struct Operator {
    process: Background,
}

impl Operator {
    /// Starts it beside an API server.
    pub fn start(world: &World) -> Operator {
        let program = std::env::var_os("HARDSTORAGE_OPERATOR_BIN").map_or_else(
            || panic!("HARDSTORAGE_OPERATOR_BIN is not set: make bench-operator"),
            PathBuf::from,
        );
        let mut command = Command::new(program);
        command.env("KUBECONFIG", world.server.kubeconfig());
        command.args(["--engine-image", "engine:1", "--listen", "127.0.0.1:0"]);
        let log = world.server.scratch().path("operator-log");
        Operator {
            process: Background::start(command, &log),
        }
    }

    /// Ends it as a lost node would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    fn proc(&mut self, file: &str) -> String {
        assert!(self.process.runs(), "the operator has ended\n{}", self.process.answer());
        fs::read_to_string(format!("/proc/{}/{file}", self.process.pid())).unwrap()
    }

    /// Resident memory: now, and at most so far.
    pub fn memory(&mut self) -> String {
        let status = self.proc("status");
        let field = |name: &str| -> f64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            let kib = line.split_ascii_whitespace().nth(1).unwrap();
            kib.parse::<f64>().unwrap() / 1024.0
        };
        format!("{:.0} MiB (peak {:.0})", field("VmRSS:"), field("VmHWM:"))
    }

    /// Processor time so far.
    pub fn cpu(&mut self) -> Duration {
        let stat = self.proc("stat");
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 1000 / TICKS)
    }
}
