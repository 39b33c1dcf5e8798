//! Collection: space comes back, and nothing that anybody may still need goes. There are no locks.
//!
//! Both sides write, then read. A writer creates its session, with the backups that it pins, before it reads their
//! states; the collector writes `purge` into a state before it lists the sessions. One of them always sees the other.
//!
//! One collection of one deployment:
//! 1. the catalogue; backups that are marked deleted for long enough are purged, never the last whole one;
//! 2. the sessions; those that are over are ended for good, which for a backup means: a void at its manifest's name. Where
//!    nobody has adopted what a void left, a marker beside it gives that up, and then the sessions are listed once more;
//! 3. the catalogue once more, for what was committed meanwhile; every backup counts but those whose purge was known
//!    before the sessions were listed, is pinned by none of them, and is older than readers without write access take;
//! 4. WAL by LSN; 5. released backups: a marker at their name, then their manifest; 6. packs that no counting backup
//!    lists, of writers that can never commit again; 7. states, voids, sessions and damage records, last of all.
//!
//! Decisions only ever age well: what a run found to be over or unlisted stays so, also when the run goes on after days.
//! The packs of a void go only when its marker was there before the sessions were listed and none of those adopts its
//! writer: who adopts says so before it looks for the marker. A marker of another collection that was seen only later proves
//! nothing about the sessions that this one knows, and that other collection takes the packs.
//!
//! A run that dies anywhere leaves what the next run finds. What cannot be read is never a reason to delete: a pack list
//! or a session that is damaged stops the packs of its deployment, and says so.

mod leftovers;
mod live;
mod purge;
mod release;
mod sweep;
#[cfg(test)]
mod tests;
mod wal;
mod writers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hardstorage_report::{BackupId, DeploymentName, Error, Result, code};
use serde::Serialize;

pub use leftovers::{Leftovers, leftovers};

use crate::wal::Expired;
use crate::{Catalog, Deployment, ProcessFacts, SessionTiming};

/// What is collected.
#[derive(Debug, Clone)]
pub struct CollectOptions {
    /// Do it; else only tell.
    pub apply: bool,
    /// How long a deletion can be taken back.
    pub grace: Duration,
    /// How long after its purge a backup's packs stay for readers that can write no session.
    pub reader_grace: Duration,
    /// How far back any moment can be reached; older backups keep only the WAL that makes each consistent. `None`: from
    /// the oldest backup on.
    pub keep_wal: Option<Duration>,
    /// No other process writes meanwhile. Needed where the store does not keep create-only writes.
    pub exclusive: bool,
    /// The scheduler's id of the run, for the audit chain.
    pub run_id: Option<String>,
    /// When sessions are taken for dead.
    pub timing: SessionTiming,
    /// The process that collects.
    pub process: ProcessFacts,
}

impl Default for CollectOptions {
    fn default() -> Self {
        let day = Duration::from_hours(24);
        CollectOptions {
            apply: false,
            grace: day,
            reader_grace: day,
            keep_wal: None,
            exclusive: false,
            run_id: None,
            timing: SessionTiming::default(),
            process: ProcessFacts::current(),
        }
    }
}

/// Objects and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Objects.
    pub objects: u64,
    /// Bytes in them.
    pub bytes: u64,
}

impl Amount {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// Why a backup that is marked deleted or purged still takes space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Waits {
    /// The deletion is young: it can still be taken back.
    Undelete,
    /// A hold protects it.
    Held,
    /// No other backup of the deployment is whole.
    LastWhole,
    /// Readers that can write no session may still read it.
    Readers,
    /// A running process pins it.
    Pinned,
}

/// What a collection did, or would do.
#[derive(Debug, Clone, Serialize)]
pub struct Collection {
    /// Whose.
    pub deployment: DeploymentName,
    /// Backups that were purged by this run: they can no longer be undeleted.
    pub purged: Vec<BackupId>,
    /// Backups that are marked deleted or purged and wait.
    pub waiting: BTreeMap<BackupId, Waits>,
    /// Backups that are gone for good.
    pub released: Vec<BackupId>,
    /// Backups that never were: their writers died, and can never commit them now.
    pub voided: Vec<BackupId>,
    /// Packs.
    pub packs: Amount,
    /// Packs that go once what waits has gone.
    pub packs_later: Amount,
    /// WAL.
    pub wal: BTreeMap<String, Expired>,
    /// Manifests, states, voids, sessions, damage records.
    pub small: u64,
    /// What was left alone and needs a person.
    pub problems: Vec<String>,
}

impl Collection {
    fn of(deployment: &Deployment) -> Collection {
        Collection {
            deployment: deployment.name().clone(),
            purged: Vec::new(),
            waiting: BTreeMap::new(),
            released: Vec::new(),
            voided: Vec::new(),
            packs: Amount::default(),
            packs_later: Amount::default(),
            wal: BTreeMap::new(),
            small: 0,
            problems: Vec::new(),
        }
    }

    /// The bytes that came back, or would.
    pub fn freed_bytes(&self) -> u64 {
        self.packs.bytes
            + self
                .wal
                .values()
                .map(|wal| wal.segments.bytes + wal.tails.bytes)
                .sum::<u64>()
    }
}

/// Collects one deployment.
pub async fn collect(deployment: &Deployment, options: &CollectOptions) -> Result<Collection> {
    allowed(deployment, options)?;
    let mut done = Collection::of(deployment);
    let catalog = deployment.backups().await?;
    let purged = purge::purge(deployment, options, &catalog, &mut done).await?;
    let mut writers = writers::Writers::look(deployment, options, &catalog, &mut done).await?;
    if writers.give_up(deployment, options, &catalog).await? {
        writers = writers.look_again(deployment, options, &catalog, &mut done).await?;
    }
    // Whatever was committed until the sessions were listed is in this catalogue, or its session was open.
    let catalog = deployment.backups().await?;
    let live = live::Live::decide(deployment, options, catalog, &purged, &writers, &mut done).await?;
    wal::expire(deployment, options, &live, &mut done).await?;
    release::manifests(deployment, options, &live, &mut done).await?;
    let remaining = sweep::packs(deployment, options, &live, &writers, &mut done).await?;
    release::remains(deployment, options, &live, &writers, &remaining, &mut done).await?;
    Ok(done)
}

fn allowed(deployment: &Deployment, options: &CollectOptions) -> Result<()> {
    deployment.descriptor().check_collect()?;
    if options.apply {
        deployment.writable()?;
    }
    if options.apply && deployment.descriptor().single_writer && !options.exclusive {
        let message = "the store of this repository does not keep create-only writes: a collection beside a writer could \
                       take what it is about to commit";
        return Err(Error::new(code::repository::COLLECT_EXCLUSIVE, message));
    }
    Ok(())
}

/// What a listing found at the time of step 1 and 3.
type Ids = BTreeSet<BackupId>;

impl Catalog {
    /// The backups that are committed, with their manifests.
    fn committed(&self) -> impl Iterator<Item = (&crate::CatalogEntry, &crate::VerifiedManifest)> {
        self.entries
            .iter()
            .filter_map(|entry| entry.manifest().map(|manifest| (entry, manifest)))
    }
}
