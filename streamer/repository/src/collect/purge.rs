//! Purging: backups that are marked deleted give their packs up for ever.

use std::collections::BTreeMap;

use hardstorage_report::{BackupId, Result, code};
use jiff::Timestamp;

use super::{CollectOptions, Collection, Waits};
use crate::wal::WalArchive;
use crate::{Action, AuditAction, AuditEvent, AuditLog, Catalog, CatalogEntry, Content, Deployment};

/// The backups whose purge is recorded, with its time by the store's clock: as known before any session is listed.
pub(super) type Purged = BTreeMap<BackupId, Timestamp>;

pub(super) async fn purge(
    deployment: &Deployment,
    options: &CollectOptions,
    catalog: &Catalog,
    done: &mut Collection,
) -> Result<Purged> {
    let now = deployment.store().clock().await?;
    let mut purged = Purged::new();
    let mut due = Vec::new();
    for entry in &catalog.entries {
        // A state that cannot be read protects: nobody knows whether the deletion was taken back.
        let state = match &entry.state {
            Ok(state) => state,
            Err(error) => {
                done.problems
                    .push(format!("the state of backup {}: {error}", entry.backup_id));
                continue;
            }
        };
        if let Some(at) = state.purged {
            purged.insert(entry.backup_id.clone(), at);
        } else if let Some(deleted) = &state.deleted {
            let age = now.duration_since(deleted.at);
            if state.held.is_some() {
                done.waiting.insert(entry.backup_id.clone(), Waits::Held);
            } else if matches!(entry.content, Content::Void(_) | Content::Absent) {
                // Nothing was ever committed here, or its end is under way.
            } else if age.unsigned_abs() < options.grace || age.is_negative() {
                done.waiting.insert(entry.backup_id.clone(), Waits::Undelete);
            } else {
                due.push(entry);
            }
        }
    }
    if due.is_empty() {
        return Ok(purged);
    }
    if !something_whole_remains(deployment, catalog).await? {
        done.waiting
            .extend(due.iter().map(|entry| (entry.backup_id.clone(), Waits::LastWhole)));
        return Ok(purged);
    }
    for entry in due {
        let Ok(state) = &entry.state else { continue };
        if !options.apply {
            done.purged.push(entry.backup_id.clone());
            done.waiting.insert(entry.backup_id.clone(), Waits::Readers);
            continue;
        }
        // The record first: a purge cannot be taken back, and one without a record could not be told from a theft.
        let event = AuditEvent::new(AuditAction::BackupPurging, options.run_id.clone()).backup(&entry.backup_id);
        AuditLog::of(deployment).append(&event).await?;
        // On the very state that was judged: an undelete or a hold that came in between wins.
        match state.append(deployment, &entry.backup_id, Action::Purge).await {
            Ok(state) => {
                done.purged.push(entry.backup_id.clone());
                purged.extend(state.purged.map(|at| (entry.backup_id.clone(), at)));
            }
            Err(error) if error.is(code::repository::STATE_RACE) => {
                done.waiting.insert(entry.backup_id.clone(), Waits::Undelete);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(purged)
}

/// Whether a backup that nobody wants gone can be restored by itself, as far as names tell.
async fn something_whole_remains(deployment: &Deployment, catalog: &Catalog) -> Result<bool> {
    for entry in catalog.entries.iter().rev() {
        if is_whole(deployment, entry).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a backup is usable, undamaged, and has the WAL that makes it consistent.
pub(super) async fn is_whole(deployment: &Deployment, entry: &CatalogEntry) -> Result<bool> {
    let (Some(stored), Ok(_)) = (entry.manifest(), &entry.state) else {
        return Ok(false);
    };
    if !entry.is_usable() || !entry.damage.is_empty() {
        return Ok(false);
    }
    WalArchive::makes_consistent(deployment, &stored.manifest).await
}
