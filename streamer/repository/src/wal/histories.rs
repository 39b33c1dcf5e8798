//! Timeline histories in the archive: create-only, verbatim. Other bytes under the same name mean that two servers were
//! promoted to one timeline.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hardstorage_report::{Error, Result, Timeline, code};
use hardstorage_storage::{Created, Key};

use super::ancestry::Ancestry;
use super::history::HistoryFile;
use super::segments::Stored;
use super::{WalArchive, split_brain};
use crate::listing::Objects;
use crate::{EnvelopeKind, layout, open_envelope, seal_envelope};

/// Histories read at the same time.
const AT_ONCE: usize = 8;

impl WalArchive {
    /// Stores an envelope under a name, or compares it with what is there.
    pub(super) async fn put_verbatim(&self, kind: EnvelopeKind, key: &Key, payload: &[u8]) -> Result<Stored> {
        let store = self.deployment().store();
        let stored = seal_envelope(kind, &self.deployment().key().mac(kind), payload);
        let created = store.put_new(key, stored).await?;
        store.sync().await?;
        if created == Created::Created {
            return Ok(Stored::Stored);
        }
        let there = self
            .get_verbatim(kind, key)
            .await?
            .ok_or_else(|| Error::new(code::storage::OBJECT, format!("object {key} was there and is gone")))?;
        if there[..] == *payload {
            store.confirm(std::slice::from_ref(key)).await?;
            Ok(Stored::AlreadyThere)
        } else {
            Err(split_brain(format!(
                "{} is in the archive with other bytes",
                key.base_name()
            )))
        }
    }

    pub(super) async fn get_verbatim(&self, kind: EnvelopeKind, key: &Key) -> Result<Option<Bytes>> {
        let Some(stored) = self.deployment().store().get(key).await? else {
            return Ok(None);
        };
        let mac = self.deployment().key().mac(kind);
        open_envelope(kind, &mac, &stored, key.as_str()).map(Some)
    }

    fn history_key(&self, timeline: Timeline) -> Key {
        layout::history(self.deployment().name(), self.lineage(), timeline)
    }

    /// Stores the history file of a timeline, verbatim.
    pub async fn put_history(&self, timeline: Timeline, bytes: &[u8]) -> Result<Stored> {
        self.put_verbatim(EnvelopeKind::History, &self.history_key(timeline), bytes)
            .await
    }

    /// The history file of a timeline, verbatim.
    pub async fn history(&self, timeline: Timeline) -> Result<Option<Bytes>> {
        self.get_verbatim(EnvelopeKind::History, &self.history_key(timeline))
            .await
    }

    /// The timelines whose history files are there, in order.
    pub async fn list_histories(&self) -> Result<Vec<Timeline>> {
        let folder = layout::timelines_folder(self.deployment().name(), self.lineage());
        let objects = Objects::under(self.deployment().store(), folder).all().await?;
        Ok(objects
            .iter()
            .filter_map(|object| Timeline::from_hex(object.key.base_name().strip_suffix(".history")?))
            .collect())
    }

    /// All histories, verbatim.
    pub async fn histories(&self) -> Result<BTreeMap<Timeline, Bytes>> {
        let timelines = self.list_histories().await?;
        let read = timelines
            .into_iter()
            .map(|timeline| async move { Ok::<_, Error>((timeline, self.history(timeline).await?)) });
        let read: Vec<(Timeline, Option<Bytes>)> = stream::iter(read).buffered(AT_ONCE).try_collect().await?;
        Ok(read
            .into_iter()
            .filter_map(|(timeline, bytes)| Some((timeline, bytes?)))
            .collect())
    }

    /// What all histories say together.
    pub async fn ancestry(&self) -> Result<Ancestry> {
        let files = self.histories().await?;
        let parsed: Result<Vec<HistoryFile>> = files
            .iter()
            .map(|(timeline, bytes)| HistoryFile::parse(*timeline, bytes))
            .collect();
        Ok(Ancestry::new(parsed?))
    }
}
