//! The backups of a round: one at a time, beside everything else, some of them killed.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::chronicle::Chronicle;
use super::complaints::Complaints;
use super::streamer::DEPLOYMENT;
use crate::answer::Answer;
use crate::background::Background;
use crate::product::Hardstorage;

/// For so long a backup may try while the store is unwell.
const PATIENCE: Duration = Duration::from_mins(4);

/// Takes them.
#[derive(Debug)]
pub struct Backups {
    product: Arc<Hardstorage>,
    chronicle: Arc<Chronicle>,
    url: String,
    running: Option<Background>,
    started: u32,
    /// Those that said that they exist.
    pub committed: u32,
    /// What they complained about.
    pub complaints: Complaints,
}

impl Backups {
    /// None yet.
    pub fn new(product: &Arc<Hardstorage>, chronicle: &Arc<Chronicle>, url: &str) -> Backups {
        Backups {
            product: product.clone(),
            chronicle: chronicle.clone(),
            url: url.to_owned(),
            running: None,
            started: 0,
            committed: 0,
            complaints: Complaints::default(),
        }
    }

    /// Begins one, when none is running.
    pub fn begin(&mut self, connection: &str) {
        if self.running.as_mut().is_some_and(Background::runs) {
            return;
        }
        self.finish();
        self.started += 1;
        let words = [
            "backup",
            DEPLOYMENT,
            "-o",
            "json",
            "--pg-connection",
            connection,
            "--repo",
            &self.url,
        ];
        let name = format!("backup-{}", self.started);
        self.running = Some(self.product.start(&name, &words));
    }

    /// Kills the one that is running, or one that has just begun, after a time.
    pub fn kill(&mut self, connection: &str, time: Duration) {
        self.begin(connection);
        thread::sleep(time);
        self.kill_running();
    }

    /// Kills the one that is running, if there is one.
    pub fn kill_running(&mut self) {
        if let Some(mut running) = self.running.take() {
            let killed = running.runs();
            let answer = running.kill();
            self.heard(&answer, killed);
        }
    }

    /// Waits for the one that is running.
    pub fn finish(&mut self) {
        if let Some(mut running) = self.running.take() {
            let answer = running.wait(PATIENCE);
            self.heard(&answer, false);
        }
    }

    /// Takes one that has to succeed.
    #[track_caller]
    pub fn take(&mut self, connection: &str) {
        self.finish();
        let before = self.committed;
        self.begin(connection);
        self.finish();
        assert!(self.committed == before + 1, "a backup failed although all was well");
    }

    fn heard(&mut self, answer: &Answer, killed: bool) {
        self.complaints.read(answer, killed);
        if killed {
            self.chronicle.note(&format!("backup {} was killed", self.started));
        } else if answer.code == Some(0) {
            self.committed += 1;
            self.chronicle.note(&format!("backup {} is committed", self.started));
        } else {
            let error = &answer.json()["error"];
            self.chronicle.note(&format!("backup {} failed: {error}", self.started));
        }
    }
}
