//! Which backups, and which files in them, a bad frame hurts.

use std::collections::BTreeSet;

use hardstorage_report::{BackupId, Error, Kind, Result, code};
use tokio::sync::mpsc;

use super::backup::BackupReader;
use super::plan::{Planner, Selection};
use super::resolve::Planned;
use super::window::WindowLimits;
use crate::{Catalog, Damage, Deployment, PackId};

/// A backup that damage hurts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HurtBackup {
    /// Which.
    pub backup_id: BackupId,
    /// Its files that cannot be restored whole.
    pub files: BTreeSet<String>,
    /// Why it could not be looked into: then it must be taken for hurt.
    pub unreadable: Option<String>,
}

/// Which committed backups need a frame that is recorded as bad.
pub async fn damage_impact(deployment: &Deployment, catalog: &Catalog, damage: &Damage) -> Result<Vec<HurtBackup>> {
    let frames: BTreeSet<(PackId, u32)> = damage.iter().map(|(pack, frame, _)| (pack, frame)).collect();
    let mut hurt = Vec::new();
    if frames.is_empty() {
        return Ok(hurt);
    }
    for entry in &catalog.entries {
        let Some(verified) = entry.manifest() else { continue };
        let manifest = &verified.manifest;
        let found = async {
            let backup = BackupReader::open(deployment, &manifest.file_table, &manifest.pack_list).await?;
            backup.files_in(&frames).await
        };
        match found.await {
            Ok(files) if files.is_empty() => {}
            Ok(files) => hurt.push(HurtBackup {
                backup_id: entry.backup_id.clone(),
                files,
                unreadable: None,
            }),
            Err(error) if error.kind() == Kind::Verify => hurt.push(HurtBackup {
                backup_id: entry.backup_id.clone(),
                files: BTreeSet::new(),
                unreadable: Some(error.to_string()),
            }),
            Err(error) => return Err(error),
        }
    }
    Ok(hurt)
}

/// Plans the selected files as for a restore, and looks only at which frames they need.
pub(super) async fn files_in(
    backup: &BackupReader,
    frames: &BTreeSet<(PackId, u32)>,
    select: Selection,
) -> Result<BTreeSet<String>> {
    let planner = Planner::<()>::new(backup, Some(select), false);
    let (plan, mut windows) = mpsc::channel(1);
    let planning = planner.run((WindowLimits::LARGE, WindowLimits::SMALL), plan);
    let (mut files, mut lost) = (BTreeSet::new(), None);
    let looking = async {
        while let Some(planned) = windows.recv().await {
            match planned {
                // Which files a lost part of the table names cannot be said: the backup as a whole is hurt.
                Planned::Damaged(damage) if damage.files.is_empty() => lost = Some(damage.to_string()),
                Planned::Damaged(damage) => files.extend(damage.files),
                Planned::Window(window) => {
                    for (index, frame) in window.frames.iter().enumerate() {
                        let pack = window.pack_of(&frame.pos);
                        if !pack.is_some_and(|pack| frames.contains(&(pack, frame.pos.number))) {
                            continue;
                        }
                        let parts = window.extents_of(index).iter();
                        let parts = parts.filter_map(|extent| window.files.get(extent.file as usize));
                        files.extend(parts.map(|part| part.file.info.key.to_string()));
                    }
                }
            }
        }
    };
    let (planned, ()) = tokio::join!(planning, looking);
    planned?;
    match lost {
        None => Ok(files),
        Some(damage) => Err(Error::new(code::repository::OBJECT_CORRUPT, damage)),
    }
}
