//! What a round, or many, did.

use std::collections::BTreeMap;
use std::fmt;

use super::servers::Promoter;

/// Counts.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    title: String,
    faults: BTreeMap<String, u32>,
    /// Acknowledged commits.
    pub commits: usize,
    /// Times at which the whole table was looked at.
    pub looks: usize,
    /// Committed backups.
    pub backups: u32,
    /// Starts of the stream.
    pub starts: u32,
    /// Restores that were compared.
    pub restores: u32,
    /// Rows of branches that died, which no restore may show.
    pub dead: usize,
    /// Acknowledged rows that an asynchronous stream had not promised yet, and that were lost with the servers.
    pub unpromised: usize,
    /// Requests to the store that met a trouble.
    pub troubled: u64,
    complaints: BTreeMap<String, u32>,
}

impl Tally {
    /// Of a round.
    pub(super) fn new(seed: u64, major: u16, promoter: Promoter, synchronous: bool) -> Tally {
        let who = if promoter == Promoter::Patroni {
            " and Patroni"
        } else {
            ""
        };
        let mode = if synchronous { "synchronous" } else { "asynchronous" };
        Tally {
            title: format!("seed {seed}, PostgreSQL {major}{who}, {mode}"),
            ..Tally::default()
        }
    }

    /// Of many.
    pub fn sum(title: &str, of: &[Tally]) -> Tally {
        let mut sum = Tally {
            title: title.to_owned(),
            ..Tally::default()
        };
        for one in of {
            sum.commits += one.commits;
            sum.looks += one.looks;
            sum.backups += one.backups;
            sum.starts += one.starts;
            sum.restores += one.restores;
            sum.dead += one.dead;
            sum.unpromised += one.unpromised;
            sum.troubled += one.troubled;
            add(&mut sum.faults, &one.faults);
            add(&mut sum.complaints, &one.complaints);
        }
        sum
    }

    /// A fault was done.
    pub(super) fn fault(&mut self, kind: &str) {
        *self.faults.entry(kind.to_owned()).or_default() += 1;
    }

    /// So much was complained about.
    pub(super) fn complained(&mut self, heard: &BTreeMap<String, u32>) {
        add(&mut self.complaints, heard);
    }
}

fn add(to: &mut BTreeMap<String, u32>, more: &BTreeMap<String, u32>) {
    for (name, count) in more {
        *to.entry(name.clone()).or_default() += count;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} commits ({} on dead branches, {} lost that were not durable yet), {} looks, {} backups, {} starts of the \
             stream, {} requests to a store that was unwell, {} restores",
            self.title,
            self.commits,
            self.dead,
            self.unpromised,
            self.looks,
            self.backups,
            self.starts,
            self.troubled,
            self.restores
        )?;
        let list = |counts: &BTreeMap<String, u32>| {
            let all: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
            all.join(", ")
        };
        writeln!(f, "  faults: {}", list(&self.faults))?;
        write!(f, "  complaints, all explained: {}", list(&self.complaints))
    }
}
