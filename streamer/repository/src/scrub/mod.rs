//! `repo scrub`: reads every stored byte in turn, so that what rots is found while the server still has the pages.
//!
//! One scrub of one deployment: what belongs to the whole repository, then what was bad before, then what is due
//! ([`round`]). Progress is remembered now and then ([`progress`]). Nothing is moved, mended
//! or removed. What makes the difference:
//! - A store that does not work is no damage: it ends the run with its own error, and what was not read is read next time.
//! - An object that was listed and is gone was collected. What is missing is for `repo check` to find.
//! - What seems bad is read once more: a transfer may have gone wrong.
//! - A bad frame is recorded under `damage/`, so that the next backup stores its pages anew.
//! - What is bad stays in the record and is read each time, so that no later run says that all is well.

mod heal;
mod object;
mod pack;
mod progress;
mod report;
mod round;
mod small;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use hardstorage_report::{DeploymentName, Error, Result, code};
use hardstorage_storage::{DynStore, Key, ObjectMeta};
use tokio_util::sync::CancellationToken;

use self::object::Class;
use self::pack::BadPack;
use self::progress::Remembered;
use self::round::{END, Round};
use crate::{Damage, Deployment, PackId, Surroundings, layout, wal};

pub use heal::{HealOptions, HealReport, Healed, NotHealed, heal};
pub use progress::ScrubProgress;
pub use report::{ScrubProblem, ScrubReport};

/// A run that is killed loses no more than this.
const REMEMBER_EVERY: Duration = Duration::from_mins(1);

/// A record stays small, whatever happened to the disk.
const MOST_BAD: usize = 10_000;

/// What can only be seen with a key, or with another one.
mod unchecked {
    pub(super) const MACS: &str = "MACs of small objects";
    pub(super) const SIGNATURES: &str = "signatures of manifests";
    pub(super) const FRAMES: &str = "frames of packs beyond the digest of their bytes";
    pub(super) const PARTS: &str = "parts of WAL beyond the digest of their bytes";
    pub(super) const ANCHORS: &str = "signatures of anchors of other repositories";
    pub(super) const SUPERSEDED: &str = "what an earlier KEK covers";
}

/// What is read.
#[derive(Debug, Clone)]
pub struct ScrubTarget {
    /// The store.
    pub store: DynStore,
    /// The deployment.
    pub name: DeploymentName,
    /// The deployment with its key; without it only what needs none is checked.
    pub deployment: Option<Deployment>,
}

/// How much of it.
#[derive(Debug, Clone)]
pub struct ScrubOptions {
    /// Everything is read once in so long.
    pub within: Duration,
    /// Everything is read now.
    pub at_once: bool,
    /// At most about so many bytes.
    pub limit: Option<u64>,
    /// Where to remember how far it has come.
    pub progress: ScrubProgress,
    /// The clock.
    pub surroundings: Surroundings,
}

/// Reads what is due. Damage is in the report; an error is a store that does not work, or a mistake of the call.
pub async fn scrub(target: &ScrubTarget, options: &ScrubOptions, cancel: &CancellationToken) -> Result<ScrubReport> {
    let now = options.surroundings.now();
    let deployment = target.deployment.as_ref();
    let mut remembered = options.progress.load(&target.name, deployment).await?;
    let round = remembered.round.take().unwrap_or_else(|| Round::first(now));
    let mut run = Run {
        target,
        options,
        cancel,
        round: round.resumed(now, options.at_once),
        report: ScrubReport::new(&target.name, deployment.is_none()),
        known: match deployment {
            Some(deployment) => Damage::load(deployment).await?,
            None => Damage::default(),
        },
        read: BTreeSet::new(),
        saved: Instant::now(),
        remembered,
    };
    if let Some(error) = run.remembered.broken.take() {
        run.report.problems.push(ScrubProblem::new("scrub", error.to_string()));
    }
    run.everything(now).await?;
    run.judge().await
}

/// One run.
struct Run<'a> {
    target: &'a ScrubTarget,
    options: &'a ScrubOptions,
    cancel: &'a CancellationToken,
    round: Round,
    report: ScrubReport,
    /// The damage that was recorded before.
    known: Damage,
    /// What was bad before, and was read by this run already.
    read: BTreeSet<Key>,
    saved: Instant,
    remembered: Remembered,
}

/// What came of one object.
enum Outcome {
    Sound,
    Gone,
    Bad(Box<ScrubProblem>),
}

impl Run<'_> {
    async fn everything(&mut self, now: jiff::Timestamp) -> Result<()> {
        for object in object::shared(&self.target.store).await? {
            self.look(&object).await?;
        }
        for name in self.round.bad.clone() {
            let key = Key::new(name.clone()).ok();
            let found = match &key {
                Some(key) => self.target.store.head(key).await?,
                None => None,
            };
            match found {
                Some(object) => {
                    self.look(&object).await?;
                    self.read.insert(object.key);
                }
                None => {
                    self.round.bad.remove(&name);
                }
            }
        }
        let due = if self.options.at_once {
            END
        } else {
            self.round.due(now, self.options.within)
        };
        let through = self.in_turn(due).await?;
        self.report.due = due as f64 / END as f64;
        self.report.done = u64::from(self.round.place) as f64 / END as f64;
        self.report.began_at = Some(self.round.began_at);
        if through && due == END {
            self.report.done = 1.0;
            let ended = self.options.surroundings.now();
            self.round = self.round.clone().next(ended, self.options.within);
        }
        self.remember().await
    }

    /// Reads up to a place; false when it was stopped before.
    async fn in_turn(&mut self, due: u64) -> Result<bool> {
        let (mut from, mut bytes) = (u64::from(self.round.place), 0);
        while from < due {
            let (objects, reached) = object::upcoming(&self.target.store, &self.target.name, from, due).await?;
            for (place, object) in objects {
                self.round.place = u32::try_from(place).unwrap_or(u32::MAX);
                if self.cancel.is_cancelled() {
                    self.report.interrupted = true;
                    return Ok(false);
                }
                if self.options.limit.is_some_and(|limit| bytes >= limit) {
                    self.report.limited = true;
                    return Ok(false);
                }
                if self.saved.elapsed() > REMEMBER_EVERY {
                    self.remember().await?;
                }
                if !self.read.contains(&object.key) {
                    bytes += object.size;
                    self.look(&object).await?;
                }
            }
            from = reached;
            // The end of a round needs no place of its own: the next one begins.
            self.round.place = u32::try_from(reached).unwrap_or(u32::MAX);
        }
        Ok(true)
    }

    async fn remember(&mut self) -> Result<()> {
        let deployment = self.target.deployment.as_ref();
        let progress = &self.options.progress;
        progress
            .save(&self.target.name, deployment, &self.round, &mut self.remembered)
            .await?;
        self.saved = Instant::now();
        Ok(())
    }

    /// Reads one object, twice when it seems bad, and keeps what was found.
    async fn look(&mut self, object: &ObjectMeta) -> Result<()> {
        let class = Class::of(&self.target.name, &object.key);
        let outcome = match self.check(&class, object).await? {
            Outcome::Bad(_) => self.check(&class, object).await?,
            other => other,
        };
        let name = object.key.as_str();
        match outcome {
            Outcome::Gone => {
                self.report.vanished += 1;
                self.round.bad.remove(name);
            }
            Outcome::Sound => {
                self.report.objects += 1;
                self.report.bytes += object.size;
                self.round.bad.remove(name);
            }
            Outcome::Bad(mut problem) => {
                self.report.objects += 1;
                self.report.bytes += object.size;
                self.record(&class, &mut problem).await?;
                self.report.problems.push(*problem);
                // Beyond that the store is lost, and the next round finds what is left of it.
                if self.round.bad.len() < MOST_BAD {
                    self.round.bad.insert(name.to_owned());
                }
            }
        }
        Ok(())
    }

    async fn check(&mut self, class: &Class, object: &ObjectMeta) -> Result<Outcome> {
        let error = match self.open(class, object).await {
            Ok(None) => return Ok(Outcome::Sound),
            Ok(Some(bad)) => {
                let mut problem = ScrubProblem::new(object.key.as_str(), bad.reason);
                problem.frames = bad.frames.into_keys().collect();
                problem.frames_unknown = bad.unknown;
                return Ok(Outcome::Bad(Box::new(problem)));
            }
            Err(error) => error,
        };
        let store = &self.target.store;
        let Some(reason) = why_unread(store, &object.key, error).await? else {
            return Ok(Outcome::Gone);
        };
        let mut problem = ScrubProblem::new(object.key.as_str(), reason);
        match class {
            Class::Wal(named) => {
                let size = wal::claimed_size(store, &object.key, object.size, named).await.ok();
                problem.wal(named, size);
            }
            Class::Manifest(id) => problem.backup_id = Some(id.clone()),
            Class::Pack(_) => problem.frames_unknown = true,
            Class::Envelope(_) | Class::ForeignAnchor | Class::Strange => {}
        }
        Ok(Outcome::Bad(Box::new(problem)))
    }

    async fn open(&mut self, class: &Class, object: &ObjectMeta) -> Result<Option<BadPack>> {
        let (store, name, key) = (&self.target.store, &self.target.name, &object.key);
        let skipped = match (class, &self.target.deployment) {
            (Class::Pack(pack), Some(deployment)) => return pack::check(deployment, *pack, object.size).await,
            (Class::Pack(pack), None) => {
                pack::check_bytes(store, name, *pack, object.size).await?;
                Some(unchecked::FRAMES)
            }
            (Class::Wal(named), Some(deployment)) => {
                wal::check_sealed(deployment, key, object.size, named).await?;
                None
            }
            (Class::Wal(named), None) => {
                wal::check_bytes(store, key, object.size, named).await?;
                Some(unchecked::PARTS)
            }
            (Class::Strange, _) => {
                self.report.strange.insert(key.to_string());
                None
            }
            (_, deployment) => {
                let stored = store.get(key).await?.ok_or_else(|| vanished(key))?;
                match deployment {
                    Some(deployment) => small::check(deployment, class, key, &stored).await?,
                    None => small::check_form(class, key, &stored)?,
                }
            }
        };
        if let Some(what) = skipped {
            *self.report.unchecked.entry(what.to_owned()).or_default() += 1;
        }
        Ok(None)
    }

    /// Bad frames are remembered where the next backup looks.
    async fn record(&mut self, class: &Class, problem: &mut ScrubProblem) -> Result<()> {
        let (Class::Pack(pack), Some(deployment)) = (class, &self.target.deployment) else {
            return Ok(());
        };
        let new: Vec<u32> = problem
            .frames
            .iter()
            .copied()
            .filter(|frame| !self.known.contains(*pack, *frame))
            .collect();
        problem.known = new.is_empty() && !problem.frames.is_empty() && !problem.frames_unknown;
        for frame in new {
            match record(deployment, *pack, frame, &problem.reason).await {
                Ok(()) => problem.recorded += 1,
                // Whoever may only read still tells.
                Err(error) if error.is(code::storage::DENIED) || error.is(code::storage::READ_ONLY) => {
                    self.report.not_recorded = Some(error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn judge(mut self) -> Result<ScrubReport> {
        if let Some(deployment) = &self.target.deployment {
            self.report.judge(deployment).await?;
        }
        self.report.settle();
        if self.report.interrupted && self.report.problems.is_empty() {
            return Err(Error::new(
                code::cli::INTERRUPTED,
                "stopped before the end; the next run goes on here",
            ));
        }
        Ok(self.report)
    }
}

async fn record(deployment: &Deployment, pack: PackId, frame: u32, reason: &str) -> Result<()> {
    Damage::record(deployment, pack, frame, &format!("scrub: {reason}"), None)
        .await
        .map(drop)
}

fn vanished(key: &Key) -> Error {
    Error::new(code::storage::OBJECT, format!("object {key} is gone"))
}

/// Why an object could not be read; `None` when it is gone. A store that does not work is an error.
async fn why_unread(store: &DynStore, key: &Key, error: Error) -> Result<Option<String>> {
    if error.is(code::storage::OBJECT) && store.head(key).await?.is_none() {
        return Ok(None);
    }
    // One object that cannot be read, in a store that works, is lost like one that is damaged.
    if error.is(code::storage::IO) && store.get(&layout::descriptor()).await?.is_some() {
        return Ok(Some(error.to_string()));
    }
    damaged(error).map(Some)
}

/// What an object answered that is not what was written; a store that does not work is an error.
fn damaged(error: Error) -> Result<String> {
    if is_the_store(&error) {
        Err(error)
    } else {
        Ok(error.to_string())
    }
}

fn is_the_store(error: &Error) -> bool {
    let store = [
        code::storage::UNREACHABLE,
        code::storage::DENIED,
        code::storage::BUCKET,
        code::storage::OBJECT,
        code::storage::ROOT_REPLACED,
        code::storage::FULL,
        code::storage::IO,
        code::storage::READ_ONLY,
        code::cli::INTERRUPTED,
        code::cli::INTERNAL,
    ];
    store.iter().any(|code| error.is(*code))
}
