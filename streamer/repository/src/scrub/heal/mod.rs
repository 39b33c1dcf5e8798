//! `repo heal`: damaged and missing objects come back from a copy of the same repository.
//!
//! Nothing of the copy is believed: its descriptor must be ours, byte for byte, and the bytes that are to be written are
//! checked with our own keys, as if they lay here ([`with`]). How a damaged object is replaced without ever having fewer
//! good bytes than before is in [`replace`]; which of the missing ones are missed is in [`missed`]. An object that is
//! whole in both places, but not the same, is an alarm: nothing decides between them.

mod judge;
mod missed;
mod replace;
mod report;
#[cfg(test)]
mod tests;
mod with;

use std::cmp::Ordering;
use std::collections::BTreeSet;

use bytes::Bytes;
use hardstorage_report::{Error, Result, code};
use hardstorage_storage::{DynStore, Key, ObjectMeta};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::judge::{Verdict, judge_bytes, judge_twice, lasts};
use self::missed::Missed;
use self::with::With;
use super::object::{Class, SHARED, folders};
use super::{ScrubProgress, is_the_store, pack};
use crate::listing::Objects;
use crate::wal::{WalArchive, claimed_size};
use crate::{AuditAction, AuditEvent, AuditLog, Damage, Deployment, Descriptor, PackId, layout};

pub use report::{HealReport, Healed, NotHealed};

/// The end of a pack or a WAL object, with the digest of all that is before it.
const END: u64 = 128;

/// Packs that were brought back may hold the lists that tell which others are missed.
const ROUNDS: usize = 3;

/// How much is done.
#[derive(Debug, Clone)]
pub struct HealOptions {
    /// Do it; otherwise only tell.
    pub apply: bool,
    /// Read every object here, and compare each with the copy's; otherwise those that a scrub found damaged.
    pub everything: bool,
    /// The scheduler's id of the run.
    pub run_id: Option<String>,
}

/// Refuses what is no copy of this repository.
pub async fn refuse_other(here: &Deployment, copy: &DynStore) -> Result<()> {
    let missing = || {
        Error::new(
            code::repository::MISSING,
            format!("there is no repository at {}", copy.url()),
        )
    };
    let stored = copy.get(&layout::descriptor()).await?.ok_or_else(missing)?;
    if hardstorage_codec::plain_hash(&stored) == *here.descriptor_hash() {
        return Ok(());
    }
    let what = match Descriptor::peek(&stored) {
        Ok(other) if other.repository_id == here.descriptor().repository_id => {
            "has the same id, but its descriptor is another one".to_owned()
        }
        Ok(other) => format!("is the repository {}, and not this one", other.id()),
        Err(error) => format!("has a descriptor that cannot be read: {error}"),
    };
    Err(Error::new(
        code::repository::NOT_A_COPY,
        format!("{} {what}", copy.url()),
    ))
}

/// Brings back what can be brought back. What cannot is in the report; an error is a store that does not work.
pub async fn heal(
    here: &Deployment,
    copy: &DynStore,
    options: &HealOptions,
    cancel: &CancellationToken,
) -> Result<HealReport> {
    refuse_other(here, copy).await?;
    work(here, copy, options, cancel).await
}

async fn work(
    here: &Deployment,
    copy: &DynStore,
    options: &HealOptions,
    cancel: &CancellationToken,
) -> Result<HealReport> {
    if options.apply {
        here.writable()?;
    }
    let damage = Damage::load(here).await?;
    let remembered = ScrubProgress::Repository.load(here.name(), Some(here)).await?;
    let mut known: BTreeSet<String> = remembered.round.map(|round| round.bad).unwrap_or_default();
    known.extend(damage.iter().map(|(id, ..)| pack_key(here, id).to_string()));
    let mut run = Run {
        here,
        copy,
        options,
        cancel,
        known,
        damage,
        done: BTreeSet::new(),
        report: HealReport::new(here.name(), options.apply),
    };
    run.finish_what_was_begun().await?;
    for folder in SHARED {
        run.folder(folder, &Missed::Small).await?;
    }
    let packs = layout::packs_folder(here.name());
    for folder in folders(here.name()) {
        if folder != packs {
            let missed = Missed::of(here, &folder).await?;
            run.folder(&folder, &missed).await?;
        }
    }
    for _ in 0..ROUNDS {
        let before = run.done.len();
        let missed = Missed::of(here, &packs).await?;
        run.folder(&packs, &missed).await?;
        if run.done.len() == before || !options.apply {
            break;
        }
    }
    run.forget_damage().await?;
    run.record().await;
    Ok(run.report)
}

/// One run.
struct Run<'a> {
    here: &'a Deployment,
    copy: &'a DynStore,
    options: &'a HealOptions,
    cancel: &'a CancellationToken,
    /// What is known to be bad.
    known: BTreeSet<String>,
    damage: Damage,
    /// What was looked at and need not be again.
    done: BTreeSet<Key>,
    report: HealReport,
}

impl Run<'_> {
    /// Goes through a folder in both places at once: both are listed in the order of their names.
    async fn folder(&mut self, folder: &str, missed: &Missed) -> Result<()> {
        let mut ours = Objects::under(self.here.store(), folder);
        let mut theirs = Objects::under(self.copy, folder);
        let (mut own, mut other) = (ours.next().await?, theirs.next().await?);
        loop {
            if self.cancel.is_cancelled() {
                return Err(Error::new(
                    code::cli::INTERRUPTED,
                    "stopped before the end; what was healed is healed",
                ));
            }
            let order = match (&own, &other) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(own), Some(other)) => own.key.as_str().cmp(other.key.as_str()),
            };
            match (&own, &other) {
                (Some(own), _) if order == Ordering::Less => self.ours(own, None).await?,
                (Some(own), Some(other)) if order == Ordering::Equal => self.ours(own, Some(other)).await?,
                (_, Some(other)) => self.only_theirs(other, missed).await?,
                _ => {}
            }
            if order != Ordering::Greater {
                own = ours.next().await?;
            }
            if order != Ordering::Less {
                other = theirs.next().await?;
            }
        }
    }

    /// An object that is here, and perhaps in the copy.
    async fn ours(&mut self, own: &ObjectMeta, other: Option<&ObjectMeta>) -> Result<()> {
        let class = Class::of(self.here.name(), &own.key);
        let lasts = lasts(&class);
        let differs = lasts && other.is_some_and(|other| other.size != own.size);
        let suspected = self.options.everything || differs || self.known.contains(own.key.as_str());
        if matches!(class, Class::Strange) || !suspected || !self.done.insert(own.key.clone()) {
            return Ok(());
        }
        match (judge_twice(self.here, &class, own).await?, other) {
            (Verdict::Gone, _) => {}
            (Verdict::Whole, other) => {
                self.report.whole += 1;
                if let Some(other) = other.filter(|_| lasts) {
                    self.compare(&class, own, other).await?;
                }
            }
            (Verdict::Bad(reason), Some(_)) => self.mend(&class, &own.key, reason, true).await?,
            (Verdict::Bad(reason), None) => self.report.lost(&own.key, reason, "the copy does not have it"),
        }
        Ok(())
    }

    /// An object that only the copy has.
    async fn only_theirs(&mut self, other: &ObjectMeta, missed: &Missed) -> Result<()> {
        let class = Class::of(self.here.name(), &other.key);
        if lasts(&class) && missed.wants(&class, &other.key) && self.done.insert(other.key.clone()) {
            let reason = "it is missing".to_owned();
            self.mend(&class, &other.key, reason, false).await?;
        }
        Ok(())
    }

    /// Two objects of one name, of which ours is whole: they are one, or the copy's is damaged, or it is an alarm.
    async fn compare(&mut self, class: &Class, own: &ObjectMeta, other: &ObjectMeta) -> Result<()> {
        let end = match class {
            Class::Pack(_) | Class::Wal(_) => own.size.min(END),
            _ => own.size,
        };
        let range = own.size - end..own.size;
        let same = own.size == other.size
            && self.here.store().get_range(&own.key, range.clone()).await?
                == self.copy.get_range(&own.key, range).await?;
        if same {
            return Ok(());
        }
        let Some(bytes) = self.copy.get(&own.key).await? else {
            return Ok(());
        };
        match judge_bytes(self.here, class, &own.key, bytes).await? {
            Verdict::Whole => self
                .report
                .differs(&own.key, "it is whole here and in the copy, but not the same"),
            Verdict::Bad(reason) => self.report.copy_is_damaged(&own.key, reason),
            Verdict::Gone => {}
        }
        Ok(())
    }

    /// Brings one object back.
    async fn mend(&mut self, class: &Class, key: &Key, reason: String, is_here: bool) -> Result<()> {
        let Some(bytes) = self.copy.get(key).await? else {
            self.report.lost(key, reason, "the copy does not have it any more");
            return Ok(());
        };
        match judge_bytes(self.here, class, key, bytes.clone()).await? {
            Verdict::Whole => {}
            Verdict::Gone => return Ok(()),
            Verdict::Bad(theirs) => {
                self.report
                    .lost(key, reason, &format!("in the copy it is damaged too: {theirs}"));
                return Ok(());
            }
        }
        if is_here && self.holds_other_wal(class, key, &bytes).await? {
            self.report.differs(
                key,
                "it is damaged here, and what is left of it tells of other WAL than the copy's",
            );
            return Ok(());
        }
        if self.options.apply {
            replace::replace(self.here, class, key, &bytes, is_here).await?;
        }
        self.report.healed(key, reason, bytes.len() as u64);
        Ok(())
    }

    /// Two streamers may have written one name with other bytes. The metadata of a damaged segment often opens still, and
    /// tells the hash of the WAL.
    async fn holds_other_wal(&self, class: &Class, key: &Key, bytes: &Bytes) -> Result<bool> {
        let named = match class {
            Class::Wal(named) if named.word() == "segment" => named,
            _ => return Ok(false),
        };
        let theirs = self.here.over(With::store(self.here.store(), key, bytes.clone()));
        let size = claimed_size(theirs.store(), key, bytes.len() as u64, named).await?;
        let metadata = |deployment: &Deployment| {
            let archive = WalArchive::new(deployment.clone(), named.lineage, size);
            async move { archive.segment_metadata(named.segment).await }
        };
        match (metadata(self.here).await, metadata(&theirs).await) {
            (Ok(Some(own)), Ok(Some(other))) => Ok(own.hash != other.hash),
            (Err(error), _) if is_the_store(&error) => Err(error),
            _ => Ok(false),
        }
    }

    /// A run that died may have left good bytes aside.
    async fn finish_what_was_begun(&mut self) -> Result<()> {
        for side in Objects::under(self.here.store(), layout::HEAL_FOLDER).all().await? {
            let Some(key) = layout::healed(&side.key) else {
                continue;
            };
            let class = Class::of(self.here.name(), &key);
            let Some(bytes) = self.here.store().get(&side.key).await? else {
                continue;
            };
            if matches!(class, Class::Strange) {
                continue;
            }
            if !matches!(
                judge_bytes(self.here, &class, &key, bytes.clone()).await?,
                Verdict::Whole
            ) {
                self.report.lost(
                    &side.key,
                    "it is damaged".to_owned(),
                    "it was put aside by an earlier run",
                );
                continue;
            }
            if self.options.apply {
                let is_here = self.here.store().head(&key).await?.is_some();
                replace::replace(self.here, &class, &key, &bytes, is_here).await?;
                self.here.store().delete(&side.key).await?;
            }
            self.report.healed(
                &key,
                "an earlier run was ended before it was back".to_owned(),
                side.size,
            );
            self.done.insert(key);
        }
        Ok(())
    }

    /// Frames that are whole again need not be stored anew by the next backup.
    async fn forget_damage(&mut self) -> Result<()> {
        if !self.options.apply {
            return Ok(());
        }
        for (id, frame, _) in self.damage.iter() {
            let key = pack_key(self.here, id);
            let Some(object) = self.here.store().head(&key).await? else {
                continue;
            };
            if self.done.contains(&key) && pack::check(self.here, id, object.size).await?.is_none() {
                let record = layout::damage(self.here.name(), &id.writer, id.sequence, frame);
                self.report.records_removed += u64::from(self.here.store().delete(&record).await?);
            }
        }
        Ok(())
    }

    /// What is done is done, whether it can be recorded or not.
    async fn record(&mut self) {
        if !self.options.apply || self.report.healed.is_empty() {
            return;
        }
        let names: Vec<&str> = self
            .report
            .healed
            .iter()
            .map(|healed| healed.object.as_str())
            .take(100)
            .collect();
        let body = json!({"from": self.copy.url(), "objects": self.report.healed.len(), "names": names});
        let event = AuditEvent::new(AuditAction::ObjectsHealed, self.options.run_id.clone()).body(body);
        if let Err(error) = AuditLog::of(self.here).append(&event).await {
            self.report.not_recorded = Some(error.to_string());
        }
    }
}

fn pack_key(deployment: &Deployment, id: PackId) -> Key {
    layout::pack(deployment.name(), &id.writer, id.sequence)
}
