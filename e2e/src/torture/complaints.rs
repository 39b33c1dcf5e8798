//! What the product complained about, and whether what was done to it explains that. Every warning and error has to be on
//! the list of what such a day brings; anything else fails the round, although nothing was lost.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::answer::Answer;

/// What kills, stalls, full disks and promotions may make a stream or a backup say.
const EXPECTED: [&str; 15] = [
    // The deed is done; the record of it met the same trouble.
    "audit.append_failed storage.full",
    "audit.append_failed unreachable.store",
    // A backup of a server that was promoted a moment ago: the stream has not found it yet, and brings that WAL afterwards.
    // What it does not bring is a hole, and `wal audit` tells of it.
    "backup.wal_gap",
    // The server has not noticed yet that the one before was killed.
    "ended with conflict.slot_in_use",
    "ended with storage.full",
    "ended with unreachable.postgres",
    "ended with unreachable.store",
    // Commits are meant to wait for it.
    "wal.preflight.sync_standby.named",
    "wal.preflight.sync_standby.no_other",
    // A server that is shut down in order says goodbye: a switchover.
    "wal.stream.reconnecting",
    "wal.stream.reconnecting conflict.slot_in_use",
    // An old primary that goes on beside the new one: another one is asked.
    "wal.stream.reconnecting conflict.split_brain",
    "wal.stream.reconnecting storage.full",
    "wal.stream.reconnecting unreachable.postgres",
    "wal.stream.reconnecting unreachable.store",
];

/// How often each was heard.
#[derive(Debug, Default)]
pub struct Complaints {
    heard: BTreeMap<String, u32>,
    strange: Vec<String>,
}

impl Complaints {
    /// Reads what a process has said; the last line of one that was killed may be half a line.
    pub fn read(&mut self, answer: &Answer, killed: bool) {
        let mut lines = answer.stderr.lines().peekable();
        while let Some(line) = lines.next() {
            let last = lines.peek().is_none();
            match serde_json::from_str::<Value>(line) {
                Ok(event) => self.hear(&event),
                Err(_) if killed && last => {}
                Err(_) => self.strange.push(line.to_owned()),
            }
        }
        if killed || answer.code == Some(0) {
            return;
        }
        // Whatever ends by itself says why, in one document; a crash does not.
        match serde_json::from_str::<Value>(&answer.stdout) {
            Ok(document) => {
                let code = document["error"]["code"].as_str().unwrap_or_default();
                self.note(format!("ended with {code}"), &answer.to_string());
            }
            Err(_) => self.strange.push(answer.to_string()),
        }
    }

    fn hear(&mut self, event: &Value) {
        let severity = event["severity"].as_str().unwrap_or_default();
        if !matches!(severity, "warning" | "error" | "critical") {
            return;
        }
        let name = event["name"].as_str().unwrap_or_default();
        let code = event["body"]["code"].as_str().unwrap_or_default();
        self.note(format!("{name} {code}").trim_end().to_owned(), &event.to_string());
    }

    fn note(&mut self, complaint: String, whole: &str) {
        if !EXPECTED.contains(&complaint.as_str()) {
            self.strange.push(whole.to_owned());
        }
        *self.heard.entry(complaint).or_default() += 1;
    }

    /// How often each was heard.
    pub fn heard(&self) -> &BTreeMap<String, u32> {
        &self.heard
    }

    /// What nothing explains.
    pub fn strange(&self) -> &[String] {
        &self.strange
    }
}
