//! A backup that certainly does not commit: the server's process that would send it its WAL, which comes behind the
//! packs and before the commit, stands still. No clock is involved, so a kill of it is a kill before the commit.

use std::fs;
use std::path::{Path, PathBuf};

use hardstorage_e2e::{Background, Cluster};
use rustix::process::{Pid, Signal, kill_process};

use crate::site::{PATIENCE, Site};

/// A process that stands still as long as the value lives.
struct Still(Pid);

impl Still {
    fn hold(pid: &str) -> Still {
        let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        Still(pid)
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        // The server may have ended meanwhile.
        kill_process(self.0, Signal::CONT).ok();
    }
}

/// The backup, which writes its packs and then waits.
pub struct Uncommitted {
    pub process: Background,
    packs: PathBuf,
    written_before: usize,
    _sender: Still,
}

impl Uncommitted {
    /// Starts one.
    pub fn start(site: &Site, source: &Cluster, name: &str, more: &[&str]) -> Uncommitted {
        let packs = site.repository().join("packs/db1");
        let written_before = wholly_written(&packs);
        // Until its checkpoint is done the copy does not begin, so that there is time to find the other process.
        let checkpointer =
            Still::hold(&source.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"));
        let connection = source.connection();
        let words = ["backup", "db1", "--pg-connection", &connection, "--repo", &site.repo];
        let mut process = site.product.start(name, &[&words[..], more].concat());
        let holder =
            "SELECT active_pid FROM pg_replication_slots WHERE temporary AND slot_name LIKE 'pg_hardstorage_tmp_%'";
        let sender = process.until("its WAL is held", PATIENCE, || source.try_value(holder).ok());
        let sender = Still::hold(&sender);
        drop(checkpointer);
        Uncommitted {
            process,
            packs,
            written_before,
            _sender: sender,
        }
    }

    /// Waits until all of its packs are stored: the last one, behind that of the file table, holds their list. So the kill
    /// that follows does not leave half a file, which is not the repository's to collect at once.
    #[track_caller]
    pub fn until_packs(&mut self) {
        let (packs, before) = (&self.packs, self.written_before);
        self.process.until("it stored its packs", PATIENCE, || {
            (wholly_written(packs) > before).then_some(())
        });
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        let killed = self.process.kill();
        assert_eq!(killed.code, None, "{killed}");
    }
}

/// The writers that have stored the last of their packs.
fn wholly_written(packs: &Path) -> usize {
    let writers = fs::read_dir(packs).into_iter().flatten();
    writers
        .filter(|writer| writer.as_ref().unwrap().path().join("80000001").exists())
        .count()
}
