//! `verify`: is a backup still what it was when it was committed?
//!
//! The structure is checked from listings and the ends of packs; the content by the same way as a restore, with a sink
//! that keeps nothing: every frame that the backup needs is opened and every file's checksum is made anew.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream;
use hardstorage_report::{Error, Result, code};

use super::backup::BackupReader;
use super::fetch;
use super::options::ReadOptions;
use super::pack_check::{PackFinding, check_pack};
use super::plan::{Planner, Selection};
use super::report::{ContentDamage, ContentReport};
use super::run;
use super::sink::DiscardSink;
use crate::listing::Objects;
use crate::table::{EntryKind, PackRecord};
use crate::{PackId, layout};

/// Packs checked at the same time.
const AT_ONCE: usize = 8;

/// How deep to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyDepth {
    /// Roots, and of every pack its presence, length, header, directory and footer.
    Structure,
    /// Also every frame and every file.
    Content,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Packs looked at.
    pub packs: u64,
    /// Bytes of those packs.
    pub pack_bytes: u64,
    /// Files, bytes, frames, and what is damaged.
    pub content: ContentReport,
}

impl BackupReader {
    /// Verifies the backup. As with a restore, damage is in the report, and an error means that it could not be looked at.
    pub async fn verify(&self, depth: VerifyDepth, options: &ReadOptions) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        let stop = Error::new(code::cli::INTERRUPTED, "stopped before the end");
        tokio::select! {
            biased;
            () = options.cancel.cancelled() => return Err(stop),
            checked = self.verify_packs(depth, &mut report) => checked?,
        }
        if depth == VerifyDepth::Content {
            let planner = Planner::new(self, None, true);
            let content = run::run(self.deployment(), planner, Arc::new(DiscardSink), options).await?;
            let structure = std::mem::replace(&mut report.content, content).damages;
            // A pack that is gone comes before the frames that went with it.
            let frames = std::mem::replace(&mut report.content.damages, structure);
            report.content.damages.add_all(frames);
        }
        Ok(report)
    }

    async fn verify_packs(&self, depth: VerifyDepth, report: &mut VerifyReport) -> Result<()> {
        let records = &self.pack_list().await?.packs;
        let lengths = self.listed_lengths(records).await?;
        let lengths = &lengths;
        let thorough = depth == VerifyDepth::Content;
        let mut checks = stream::iter(records.iter().map(|record| async move {
            let found = lengths.get(&record.id).copied();
            Ok::<_, Error>((
                record,
                found,
                check_pack(self.deployment(), record, found, thorough).await?,
            ))
        }))
        .buffer_unordered(AT_ONCE);
        let mut lost = HashMap::new();
        while let Some(checked) = checks.next().await {
            let (record, found, finding) = checked?;
            report.packs += 1;
            report.pack_bytes += found.unwrap_or_default();
            let (reason, pack_missing) = match finding {
                PackFinding::Sound => continue,
                PackFinding::Lost(reason) => (reason, true),
                PackFinding::Damaged(reason) => (reason, false),
            };
            if pack_missing {
                lost.insert(record.id, *record);
            }
            report.content.damages.add(ContentDamage {
                pack: Some((record.id, record.kind)),
                object: fetch::object(self.deployment(), record.id),
                frame: None,
                pack_missing,
                files: BTreeSet::new(),
                reason,
            });
        }
        // Who reads the content finds out exactly which files are hurt.
        if !lost.is_empty() && !thorough {
            self.name_files(&lost, report).await?;
        }
        Ok(())
    }

    /// The packs of this backup as the store lists them.
    async fn listed_lengths(&self, records: &[PackRecord]) -> Result<HashMap<PackId, u64>> {
        let deployment = self.deployment();
        let mut lengths = HashMap::new();
        let wanted: HashMap<String, PackId> = records
            .iter()
            .map(|record| (fetch::object(deployment, record.id), record.id))
            .collect();
        let mut objects = Objects::under(deployment.store(), layout::packs_folder(deployment.name()));
        while let Some(object) = objects.next().await? {
            if let Some(pack) = wanted.get(object.key.as_str()) {
                lengths.insert(*pack, object.size);
            }
        }
        Ok(lengths)
    }

    /// Says which files use packs that are lost.
    async fn name_files(&self, lost: &HashMap<PackId, PackRecord>, report: &mut VerifyReport) -> Result<()> {
        let mut entries = self.entries();
        while let Some(entry) = entries.next_or_bad().await? {
            // A part of the table that is lost with its pack names no files.
            let Ok(entry) = entry else { continue };
            let EntryKind::File(file) = &entry.kind else { continue };
            let mut hurt = false;
            for record in file.uses.iter().filter_map(|used| lost.get(&self.pack(used.pack)?)) {
                hurt = true;
                report.content.damages.add(ContentDamage {
                    pack: Some((record.id, record.kind)),
                    object: fetch::object(self.deployment(), record.id),
                    frame: None,
                    pack_missing: true,
                    files: BTreeSet::from([entry.key.to_string()]),
                    reason: "the pack is not there, or short".into(),
                });
            }
            report.content.damaged_files += u64::from(hurt);
        }
        Ok(())
    }

    /// Which files of this backup need one of these frames. Packs that the backup does not list cost nothing.
    pub async fn files_in(&self, frames: &BTreeSet<(PackId, u32)>) -> Result<BTreeSet<String>> {
        let listed: BTreeSet<PackId> = frames
            .iter()
            .map(|(pack, _)| *pack)
            .filter(|pack| self.kind_of(pack).is_some())
            .collect();
        if listed.is_empty() {
            return Ok(BTreeSet::new());
        }
        let this = self.clone();
        let select: Selection = Arc::new(move |entry| match &entry.kind {
            EntryKind::File(file) => file
                .uses
                .iter()
                .any(|used| this.pack(used.pack).is_some_and(|pack| listed.contains(&pack))),
            _ => false,
        });
        super::impact::files_in(self, frames, select).await
    }
}
