//! What a scrub found, and whom it hurts.

use std::collections::{BTreeMap, BTreeSet};

use hardstorage_report::{BackupId, DeploymentName, Lsn, Result, SegmentSize, Timeline};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::wal::NamedWal;
use crate::{BackupReader, Catalog, Damage, Deployment, Lineage, PackId, damage_impact, layout};

/// An object that is not what was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScrubProblem {
    /// Its name.
    pub object: String,
    /// What is wrong with it.
    pub reason: String,
    /// The bad frames, when it is a pack.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<u32>,
    /// Of some frames nothing can be said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub frames_unknown: bool,
    /// How many of the bad frames were recorded now, so that the next backup stores their pages anew.
    pub recorded: usize,
    /// All of it was recorded before.
    pub known: bool,
    /// The backup whose manifest it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<BackupId>,
    /// The timeline, when it is WAL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Timeline>,
    /// The first position that it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Lsn>,
    /// The first position behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Lsn>,
    /// `segment`, `tail` or `partial segment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal: Option<String>,
    /// The cluster's life that it is of.
    #[serde(skip)]
    lineage: Option<Lineage>,
}

impl ScrubProblem {
    pub(super) fn new(object: impl Into<String>, reason: String) -> ScrubProblem {
        ScrubProblem {
            object: object.into(),
            reason,
            frames: Vec::new(),
            frames_unknown: false,
            recorded: 0,
            known: false,
            backup_id: None,
            timeline: None,
            from: None,
            to: None,
            wal: None,
            lineage: None,
        }
    }

    pub(super) fn wal(&mut self, named: &NamedWal, size: Option<SegmentSize>) {
        self.timeline = Some(named.segment.timeline);
        self.wal = Some(named.word().to_owned());
        self.lineage = Some(named.lineage);
        if let Some((from, to)) = named.range(size) {
            (self.from, self.to) = (Some(from), Some(to));
        }
    }

    /// Whether moments are lost with it: a partial segment is read by no recovery.
    pub fn is_replayed_wal(&self) -> bool {
        self.wal.as_deref().is_some_and(|word| word != NamedWal::PARTIAL)
    }
}

/// What one scrub of one deployment did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScrubReport {
    /// Whose.
    pub deployment: DeploymentName,
    /// Nothing is wrong, or all that is wrong was known and the newest backup does not need it.
    pub ok: bool,
    /// No key was used.
    pub keyless: bool,
    /// Objects that were read.
    pub objects: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Objects that were collected while they were to be read.
    pub vanished: u64,
    /// When the round began.
    pub began_at: Option<Timestamp>,
    /// The part of the round that is due until tomorrow, from 0 to 1.
    pub due: f64,
    /// The part of it that was read.
    pub done: f64,
    /// It stopped at the limit.
    pub limited: bool,
    /// It was told to stop.
    pub interrupted: bool,
    /// What is damaged.
    pub problems: Vec<ScrubProblem>,
    /// Backups that cannot be restored whole, with what of them is hurt.
    pub hurt: BTreeMap<BackupId, BTreeSet<String>>,
    /// Whether the newest usable backup is whole, as far as recorded damage tells; absent where nothing is known to be bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_is_whole: Option<bool>,
    /// How many objects could not be checked in full, by what was not.
    pub unchecked: BTreeMap<String, u64>,
    /// Objects that are not of this format.
    pub strange: BTreeSet<String>,
    /// Why bad frames could not be recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_recorded: Option<String>,
}

impl ScrubReport {
    pub(super) fn new(name: &DeploymentName, keyless: bool) -> ScrubReport {
        ScrubReport {
            deployment: name.clone(),
            ok: true,
            keyless,
            objects: 0,
            bytes: 0,
            vanished: 0,
            began_at: None,
            due: 0.0,
            done: 0.0,
            limited: false,
            interrupted: false,
            problems: Vec::new(),
            hurt: BTreeMap::new(),
            newest_is_whole: None,
            unchecked: BTreeMap::new(),
            strange: BTreeSet::new(),
            not_recorded: None,
        }
    }

    /// Names the backups that what was found hurts.
    pub(super) async fn judge(&mut self, deployment: &Deployment) -> Result<()> {
        if self.problems.is_empty() {
            return Ok(());
        }
        let catalog = deployment.backups().await?;
        let damage = Damage::load(deployment).await?;
        for hurt in damage_impact(deployment, &catalog, &damage).await? {
            let files = self.hurt.entry(hurt.backup_id).or_default();
            files.extend(hurt.files);
            files.extend(hurt.unreadable);
        }
        let problems = std::mem::take(&mut self.problems);
        for problem in &problems {
            self.touched(deployment, &catalog, problem).await?;
        }
        self.problems = problems;
        self.newest_is_whole = Some(
            catalog
                .latest()
                .is_some_and(|latest| !self.hurt.contains_key(&latest.backup_id)),
        );
        Ok(())
    }

    async fn touched(&mut self, deployment: &Deployment, catalog: &Catalog, problem: &ScrubProblem) -> Result<()> {
        if let Some(id) = &problem.backup_id {
            self.hurt
                .entry(id.clone())
                .or_default()
                .insert("its manifest".to_owned());
        }
        let folder = layout::packs_folder(deployment.name());
        let pack = hardstorage_storage::Key::new(problem.object.clone())
            .ok()
            .and_then(|key| layout::pack_id(&folder, &key))
            .filter(|_| problem.frames_unknown);
        for entry in &catalog.entries {
            let Some(manifest) = entry.manifest().map(|stored| &stored.manifest) else {
                continue;
            };
            let needs = manifest.wal.needed.iter().any(|range| {
                problem.lineage == Some(manifest.lineage)
                    && problem.is_replayed_wal()
                    && problem.timeline == Some(range.timeline)
                    && problem
                        .from
                        .zip(problem.to)
                        .is_none_or(|(from, to)| range.from < to && from < range.to)
            });
            let follows = manifest.wal.histories.iter().any(|history| {
                let key = layout::history(deployment.name(), manifest.lineage, history.timeline);
                key.as_str() == problem.object
            });
            let lists = match pack {
                Some(pack) => lists(deployment, manifest, pack).await?,
                None => false,
            };
            if needs || follows || lists {
                let what = self.hurt.entry(entry.backup_id.clone()).or_default();
                what.insert(problem.object.clone());
            }
        }
        Ok(())
    }

    /// The verdict.
    pub(super) fn settle(&mut self) {
        let new = self.problems.iter().any(|problem| !problem.known);
        self.ok = !new && self.newest_is_whole != Some(false);
    }
}

/// Whether a backup needs a pack. One whose list cannot be read must be taken for hurt.
async fn lists(deployment: &Deployment, manifest: &crate::Manifest, pack: PackId) -> Result<bool> {
    let found = async {
        let backup = BackupReader::open(deployment, &manifest.file_table, &manifest.pack_list).await?;
        let list = backup.pack_list().await?;
        Ok(list
            .packs
            .iter()
            .any(|record| record.id == pack && (record.live > 0 || record.holds_the_list())))
    };
    match found.await {
        Err(error) if !super::is_the_store(&error) => Ok(true),
        answer => answer,
    }
}
