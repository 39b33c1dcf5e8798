//! Who may still write, and what they hold.

use std::collections::{BTreeMap, BTreeSet};

use hardstorage_report::{BackupId, Result};

use super::{CollectOptions, Collection, Ids};
use crate::listing::Objects;
use crate::manifest::{Manifest, StoredManifest, Voided, mark_gone, void_backup};
use crate::session::{Liveness, SessionView, list_sessions, look};
use crate::writer::is_damage;
use crate::{Catalog, Content, Deployment, WriterId, layout};

/// The writers of a deployment, as their sessions say after every purge was written.
#[derive(Debug, Default)]
pub(super) struct Writers {
    /// Sessions of processes that may still rely on what they pin and adopt.
    pub(super) open: BTreeSet<WriterId>,
    /// What they pin.
    pub(super) pins: Ids,
    /// Whose packs they took over.
    pub(super) adopted: BTreeSet<WriterId>,
    /// Sessions that are over, and the backup that each of them took: it is committed, or can never be.
    pub(super) over: BTreeMap<WriterId, (SessionView, Option<BackupId>)>,
    /// Writers whose void or backup had its marker before the sessions were listed: nobody adopts them any more.
    pub(super) given_up: BTreeSet<WriterId>,
    /// A session cannot be read: nobody knows what it pins and adopts.
    pub(super) unknown: bool,
}

impl Writers {
    /// Lists the sessions, and ends those that are over for good.
    pub(super) async fn look(
        deployment: &Deployment,
        options: &CollectOptions,
        catalog: &Catalog,
        done: &mut Collection,
    ) -> Result<Writers> {
        // The clock first: a session that is renewed while we list must not look older than it is.
        let now = deployment.store().clock().await?;
        let mut writers = Writers {
            given_up: catalog.gone.values().map(|gone| gone.writer).collect(),
            ..Writers::default()
        };
        for view in list_sessions(deployment).await? {
            let record = match &view.record {
                Ok(record) => record,
                Err(error) => {
                    done.problems.push(format!("session {}: {error}", view.writer));
                    writers.unknown = true;
                    continue;
                }
            };
            let alive = match view.liveness(now, &options.timing, &options.process, look) {
                Liveness::Live | Liveness::Unreadable => true,
                Liveness::Ended | Liveness::Dead | Liveness::Silent(_) => false,
            };
            let id = record.backup_id().cloned();
            if alive {
                writers.open.insert(view.writer);
                writers.pins.extend(record.pins.iter().cloned());
                writers.adopted.extend(record.adopts.iter().copied());
                continue;
            }
            if let Some(id) = &id {
                end(deployment, options, catalog, id, done).await?;
            }
            writers.over.insert(view.writer, (view, id));
        }
        Ok(writers)
    }

    /// Gives up what voids have left that nobody has adopted: marks them. Whether there was one, so that the sessions have to
    /// be listed once more: an adopter may have come before the marker.
    pub(super) async fn give_up(
        &mut self,
        deployment: &Deployment,
        options: &CollectOptions,
        catalog: &Catalog,
    ) -> Result<bool> {
        let mut marked = BTreeSet::new();
        for (writer, (_, id)) in &self.over {
            let Some(id) = id else { continue };
            if self.adopted.contains(writer) || self.given_up.contains(writer) {
                continue;
            }
            let is_committed = catalog
                .get(id)
                .is_some_and(|entry| matches!(entry.content, Content::Committed(_) | Content::Broken(_)));
            if is_committed || !self.is_void(deployment, options, id).await? {
                continue;
            }
            if options.apply {
                mark_gone(deployment, id, *writer).await?;
            }
            marked.insert(*writer);
        }
        self.given_up.extend(&marked);
        Ok(!marked.is_empty())
    }

    /// Whether a name that was ended is void. Without the right to write it may only be going to be.
    async fn is_void(&self, deployment: &Deployment, options: &CollectOptions, id: &BackupId) -> Result<bool> {
        Ok(match Manifest::load(deployment, id).await {
            Ok(StoredManifest::Void(_)) => true,
            Ok(StoredManifest::Absent) => !options.apply,
            Ok(StoredManifest::Committed(_)) => false,
            // What it is nobody knows: then nothing is given up.
            Err(error) if is_damage(&error) => false,
            Err(error) => return Err(error),
        })
    }

    /// The sessions as they are after the markers were written.
    pub(super) async fn look_again(
        self,
        deployment: &Deployment,
        options: &CollectOptions,
        catalog: &Catalog,
        done: &mut Collection,
    ) -> Result<Writers> {
        let known = done.problems.len();
        let mut writers = Writers::look(deployment, options, catalog, done).await?;
        // Said already.
        done.problems.truncate(known);
        writers.unknown |= self.unknown;
        writers.given_up = self.given_up;
        Ok(writers)
    }

    /// Whether a session of a writer is there that was not when the sessions were listed. It is asked after a pack of the
    /// writer was seen: a session is there before the first pack.
    pub(super) async fn came_since(deployment: &Deployment, writer: WriterId) -> Result<bool> {
        let folder = format!("{}{writer}/", layout::sessions_folder(deployment.name()));
        Ok(Objects::under(deployment.store(), folder).next().await?.is_some())
    }

    /// The writer of a backup, as its session says.
    pub(super) fn of(&self, id: &BackupId) -> Option<WriterId> {
        let mut over = self.over.iter();
        over.find_map(|(writer, (_, backup))| (backup.as_ref() == Some(id)).then_some(*writer))
    }
}

/// Makes sure that a session which ended, died or fell silent can commit nothing any more. A request that was sent before
/// its process ended may still arrive, so the word of the session alone is not enough.
async fn end(
    deployment: &Deployment,
    options: &CollectOptions,
    catalog: &Catalog,
    id: &BackupId,
    done: &mut Collection,
) -> Result<()> {
    let decided = catalog
        .get(id)
        .is_some_and(|entry| matches!(entry.content, Content::Committed(_) | Content::Void(_)));
    if decided || catalog.gone.contains_key(id) || done.voided.contains(id) {
        return Ok(());
    }
    let why = "its process ended, died or fell silent before it committed";
    let voided = if options.apply {
        void_backup(deployment, id, why).await? == Voided::Now
    } else {
        deployment
            .store()
            .head(&layout::manifest(deployment.name(), id))
            .await?
            .is_none()
    };
    if voided {
        done.voided.push(id.clone());
    }
    Ok(())
}
