//! Which of the objects that only the copy has are missed. The others were let go: by retention, by a collection, by a tail
//! that replaced tails; they must not come back.

use std::collections::BTreeSet;

use hardstorage_report::{BackupId, Result, SegmentSize, Timeline};
use hardstorage_storage::Key;

use super::Class;
use crate::manifest::Manifest;
use crate::wal::{LsnRange, WalArchive};
use crate::{BackupReader, Catalog, Content, Deployment, EnvelopeKind, Lineage, PackId, layout};

/// What a folder lacks.
#[derive(Debug)]
pub(super) enum Missed {
    /// Keys, signers, policies, audit records, anchors: nobody removes them.
    Small,
    /// Manifests, voids and states, unless a marker says that they were collected: it is written before.
    Backups { gone: BTreeSet<BackupId> },
    /// Packs that a backup lists which is not purged.
    Packs { listed: BTreeSet<PackId> },
    /// WAL that is covered by nothing here and did not expire; histories.
    Wal { lineages: Vec<LineageWal> },
}

/// What the archive of one life has.
#[derive(Debug)]
pub(super) struct LineageWal {
    lineage: Lineage,
    size: SegmentSize,
    covered: Vec<(Timeline, LsnRange)>,
    expired: Vec<(Timeline, LsnRange)>,
}

impl Missed {
    /// By what is here now.
    pub(super) async fn of(here: &Deployment, folder: &str) -> Result<Missed> {
        let name = here.name();
        if folder == layout::manifests_folder(name) {
            let gone = here.backups().await?.gone.into_keys().collect();
            return Ok(Missed::Backups { gone });
        }
        if folder == layout::packs_folder(name) {
            return Ok(Missed::Packs {
                listed: listed(here, &here.backups().await?).await?,
            });
        }
        if folder == layout::wal_folder(name) {
            return Ok(Missed::Wal {
                lineages: archives(here).await?,
            });
        }
        Ok(Missed::Small)
    }

    pub(super) fn wants(&self, class: &Class, key: &Key) -> bool {
        match (self, class) {
            (
                Missed::Small,
                Class::ForeignAnchor
                | Class::Envelope(
                    EnvelopeKind::Config
                    | EnvelopeKind::Key
                    | EnvelopeKind::Signer
                    | EnvelopeKind::Audit
                    | EnvelopeKind::Anchor,
                ),
            )
            | (Missed::Wal { .. }, Class::Envelope(EnvelopeKind::History)) => true,
            (Missed::Backups { gone }, Class::Manifest(id)) => !gone.contains(id),
            (Missed::Backups { gone }, Class::Envelope(EnvelopeKind::State)) => {
                !gone.iter().any(|id| key.as_str().contains(&format!("/{id}/")))
            }
            (Missed::Packs { listed }, Class::Pack(id)) => listed.contains(id),
            (Missed::Wal { lineages }, Class::Wal(named)) => {
                let Some(own) = lineages.iter().find(|own| own.lineage == named.lineage) else {
                    return true;
                };
                // A partial segment is read by nobody.
                let replayed = named.word() != crate::wal::NamedWal::PARTIAL;
                replayed
                    && named.range(Some(own.size)).is_some_and(|(from, to)| {
                        let within = |all: &[(Timeline, LsnRange)]| {
                            all.iter().any(|(timeline, range)| {
                                *timeline == named.segment.timeline && range.from <= from && to <= range.to
                            })
                        };
                        !within(&own.covered) && !within(&own.expired)
                    })
            }
            _ => false,
        }
    }
}

async fn archives(here: &Deployment) -> Result<Vec<LineageWal>> {
    let catalog = here.backups().await?;
    let mut found = Vec::new();
    for folder in crate::listing::folders(here.store(), &layout::wal_folder(here.name())).await? {
        let Some(lineage) = Lineage::from_folder(&folder) else {
            continue;
        };
        let archive = WalArchive::of_lineage(here, &catalog, lineage).await?;
        let mut covered = Vec::new();
        for timeline in archive.timelines().await? {
            let coverage = archive.coverage(timeline, hardstorage_report::Lsn::INVALID).await?;
            covered.extend(coverage.ranges().into_iter().map(|range| (timeline, range)));
        }
        let gaps = archive.gaps().await?;
        let expired = gaps.records.iter().filter(|gap| gap.is_expired());
        found.push(LineageWal {
            lineage,
            size: archive.segment_size(),
            covered,
            expired: expired.map(|gap| (gap.timeline, gap.range())).collect(),
        });
    }
    Ok(found)
}

/// The packs of all backups that are not purged. A list that cannot be read names at least the packs that hold it: once
/// they are back, it can.
async fn listed(here: &Deployment, catalog: &Catalog) -> Result<BTreeSet<PackId>> {
    let mut listed = BTreeSet::new();
    for entry in &catalog.entries {
        let Content::Committed(stored) = &entry.content else {
            continue;
        };
        if entry.state.as_ref().is_ok_and(|state| state.purged.is_some()) {
            continue;
        }
        let manifest: &Manifest = &stored.manifest;
        for frame in manifest.file_table.frames.iter().chain(&manifest.pack_list.frames) {
            listed.insert(frame.pack);
        }
        let list = async {
            let backup = BackupReader::open(here, &manifest.file_table, &manifest.pack_list).await?;
            backup.pack_list().await
        };
        match list.await {
            Ok(list) => listed.extend(list.packs.iter().map(|record| record.id)),
            Err(error) if super::is_the_store(&error) && !error.is(hardstorage_report::code::storage::OBJECT) => {
                return Err(error);
            }
            Err(error) => tracing::info!(%error, backup = %entry.backup_id, "its list of packs cannot be read yet"),
        }
    }
    Ok(listed)
}
