//! Two servers, one of which is the primary: killed, stopped, promoted away, and made anew at their old addresses, so that
//! one connection string leads to both for ever.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::ledger::{State, held};
use super::streamer::DEPLOYMENT;
use super::writers::{STATE, TABLE};
use crate::postgres::Cluster;
use crate::postgres::lsn;

/// The pair.
#[derive(Debug)]
pub struct Nodes {
    pair: [Cluster; 2],
    primary: usize,
    sockets: Arc<Mutex<Vec<PathBuf>>>,
    /// Where the primary was, and on which timeline, when its standby had been made: that one has no older WAL.
    oldest: (u32, u64),
}

impl Nodes {
    /// A primary and its standby. In a synchronous world every commit waits for the stream.
    pub fn new(major: u16, segment_mib: u32, synchronous: bool) -> Nodes {
        // A promoted standby still has what the archive may lack, so that nothing explains a gap.
        let mut recipe = Cluster::builder(major)
            .wal_segment_size(segment_mib)
            .set("wal_keep_size", "2GB")
            .set("wal_receiver_status_interval", "1s")
            .set("wal_retrieve_retry_interval", "200ms");
        if synchronous {
            recipe = recipe.set("synchronous_standby_names", &format!("pg_hardstorage_{DEPLOYMENT}"));
        }
        let primary = recipe.start();
        let standby = primary.standby();
        let sockets = Arc::new(Mutex::new(vec![primary.sockets()]));
        let mut nodes = Nodes {
            pair: [primary, standby],
            primary: 0,
            sockets,
            oldest: (0, 0),
        };
        nodes.oldest = nodes.end();
        nodes
    }

    /// Makes the table; in a synchronous world the stream has to run.
    pub fn create(&self) {
        self.primary().sql(TABLE);
    }

    /// Where writers find the primary, whichever it is.
    pub fn sockets(&self) -> &Arc<Mutex<Vec<PathBuf>>> {
        &self.sockets
    }

    /// The primary.
    pub fn primary(&self) -> &Cluster {
        &self.pair[self.primary]
    }

    fn primary_mut(&mut self) -> &mut Cluster {
        &mut self.pair[self.primary]
    }

    /// Leads to the one that is the primary.
    pub fn connection(&self) -> String {
        let [first, second] = &self.pair;
        format!(
            "postgres://pgbackup:pgbackup@{},{}/postgres?target_session_attrs=primary",
            first.address(),
            second.address()
        )
    }

    /// Kills the primary, all of it, and starts it again.
    pub fn restart_after_cut(&mut self) {
        self.primary_mut().cut();
        self.primary_mut().start();
    }

    /// Kills one backend: PostgreSQL then throws out all of them and recovers.
    pub fn kill_backend(&mut self) {
        let one =
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND query LIKE 'INSERT%' LIMIT 1";
        let answer = self.primary().try_value(one).ok().and_then(|pid| pid.parse().ok());
        if let Some(pid) = answer.and_then(Pid::from_raw) {
            // It may have ended by itself in this instant.
            kill_process(pid, Signal::KILL).ok();
        }
        self.primary_mut()
            .until("it answers again", |cluster| cluster.try_rows("SELECT 1").ok());
    }

    /// Stops all of the primary's processes for a time.
    pub fn pause(&self, time: Duration) {
        self.primary().signal_all(Signal::STOP);
        thread::sleep(time);
        self.primary().signal_all(Signal::CONT);
    }

    /// The primary dies, the standby takes over, and what was the primary becomes its standby. With `alone`, the primary
    /// goes on for so long after the standby has lost it: what it acknowledges then is on a branch that dies with it.
    pub fn promote(&mut self, alone: Option<Duration>) {
        let other = 1 - self.primary;
        if let Some(alone) = alone {
            let standby = &mut self.pair[other];
            standby.sql("ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'");
            standby.sql("SELECT pg_reload_conf()");
            standby.until("the standby has lost its primary", |standby| {
                let receivers = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'";
                (standby.try_value(receivers).ok()? == "0").then_some(())
            });
            thread::sleep(alone);
        }
        self.primary_mut().cut();
        self.pair[other].promote();
        let old = self.primary;
        self.primary = other;
        *held(&self.sockets) = vec![self.primary().sockets()];
        let [first, second] = &mut self.pair;
        if old == 0 {
            first.follow(second);
        } else {
            second.follow(first);
        }
        self.oldest = self.end();
    }

    /// What a stream must have before the standby may take over: of what is older, nobody would have anything.
    pub fn oldest(&self) -> (u32, u64) {
        self.oldest
    }

    /// The primary and its standby are gone in one instant.
    pub fn lose(&mut self) {
        self.primary_mut().cut();
        let other = 1 - self.primary;
        self.pair[other].cut();
    }

    /// What the table holds.
    pub fn state(&self) -> State {
        state(self.primary())
    }

    /// The end of what is flushed, and its timeline.
    pub fn end(&self) -> (u32, u64) {
        let timeline = self
            .primary()
            .value("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)");
        let end = self.primary().value("SELECT pg_current_wal_flush_lsn()");
        (u32::from_str_radix(&timeline, 16).unwrap(), lsn(&end))
    }
}

/// What the table of a server holds.
#[track_caller]
pub(super) fn state(cluster: &Cluster) -> State {
    state_of(&cluster.sql(STATE)[0])
}

/// The state in the answer of a server.
#[track_caller]
pub(super) fn state_of(row: &[Option<String>]) -> State {
    State {
        rows: row[0].as_ref().unwrap().parse().unwrap(),
        hash: row[1].clone().unwrap(),
    }
}
