//! Taking over the packs of backups that were never committed.
//!
//! Both sides write, then read. An adopter names the dead writer in its own session *before* it looks for the collector's
//! marker of that backup; the collector writes that marker *before* it lists the sessions that decide which packs go. So
//! either the adopter finds the marker and leaves the packs alone, or the collector finds the adopter and leaves them be
//! until the adopter has ended, when its manifest lists what it used.

use std::cmp::Reverse;

use hardstorage_report::{BackupId, Result, code};

use super::ending::{Liveness, Sessions};
use super::live::Session;
use super::process::{ProcessFacts, look};
use super::progress::ProgressRecord;
use super::record::SessionTiming;
use crate::manifest::{Voided, is_gone, void_backup};
use crate::{Deployment, WriterId};

/// Dead writers that one backup takes over at most: each has a file table that stays open.
const AT_MOST: usize = 4;

/// A backup that will never be committed, and how far it came.
#[derive(Debug, Clone)]
pub struct Abandoned {
    /// Who wrote it.
    pub writer: WriterId,
    /// What it would have been.
    pub backup_id: BackupId,
    /// What of it is whole.
    pub progress: ProgressRecord,
}

/// The backups whose writers ended, died or fell silent, void from now on, with what they left; the newest first. A
/// progress that cannot be read is left out: it costs space, never a backup.
pub async fn abandoned(
    deployment: &Deployment,
    sessions: &Sessions,
    timing: &SessionTiming,
    here: &ProcessFacts,
) -> Result<Vec<Abandoned>> {
    let mut dead = Vec::new();
    for view in &sessions.views {
        let Ok(record) = &view.record else { continue };
        let (Some(id), Some(newest)) = (record.backup_id(), view.progress.last()) else {
            continue;
        };
        match view.liveness(sessions.now, timing, here, look) {
            Liveness::Live | Liveness::Unreadable => {}
            Liveness::Ended | Liveness::Dead | Liveness::Silent(_) => {
                dead.push((record.opened_at, view.writer, id.clone(), *newest));
            }
        }
    }
    dead.sort_by_key(|(opened_at, ..)| Reverse(*opened_at));
    let mut found = Vec::new();
    for (_, writer, backup_id, newest) in dead {
        // One that was collected is not made void again. Of others the session's word alone is not enough: a request that was sent
        // before its process ended may still arrive.
        let why = "its process ended, died or fell silent before it committed";
        if is_gone(deployment, &backup_id, writer).await?
            || void_backup(deployment, &backup_id, why).await? == Voided::Committed
        {
            continue;
        }
        match ProgressRecord::read(deployment, writer, newest).await {
            Ok(Some(progress)) => found.push(Abandoned {
                writer,
                backup_id,
                progress,
            }),
            Ok(None) => {}
            Err(error) if error.is(code::repository::OBJECT_CORRUPT) || error.is(code::storage::CORRUPT) => {
                tracing::warn!(%error, "what a dead backup has left cannot be read: it is stored anew");
            }
            Err(error) => return Err(error),
        }
        if found.len() == AT_MOST {
            break;
        }
    }
    Ok(found)
}

impl Session {
    /// Adopts these beside what is pinned, and gives those whose packs may be relied on from now on: none was given up
    /// before the session said so.
    pub async fn adopt(&self, abandoned: Vec<Abandoned>) -> Result<Vec<Abandoned>> {
        if abandoned.is_empty() {
            return Ok(abandoned);
        }
        self.set_adopts(abandoned.iter().map(|one| one.writer).collect())
            .await?;
        let mut usable = Vec::new();
        for one in abandoned {
            if !is_gone(self.deployment(), &one.backup_id, one.writer).await? {
                usable.push(one);
            }
        }
        Ok(usable)
    }
}
