//! The sessions of others: who lives, who is silent, and how a silent one is ended.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use hardstorage_report::{Result, code};
use jiff::{SignedDuration, Timestamp};

use super::process::{ProcessFacts, Seen};
use super::record::{LATELY, Purpose, SessionRecord, SessionTiming};
use crate::listing::Objects;
use crate::manifest::{Manifest, StoredManifest, Voided, void_backup};
use crate::{Deployment, WriterId, layout};

const AT_ONCE: usize = 16;

/// A session as others see it.
#[derive(Debug)]
pub struct SessionView {
    /// Its id.
    pub writer: WriterId,
    /// The numbers of its objects, ascending.
    pub sequences: Vec<u32>,
    /// The numbers of the objects that tell how far its backup came, ascending.
    pub progress: Vec<u32>,
    /// The newest object. When it cannot be read, nobody knows what it pins: take it for open.
    pub record: Result<SessionRecord>,
}

/// How alive a session looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// It ended itself.
    Ended,
    /// It was renewed in time.
    Live,
    /// Its process is proven dead.
    Dead,
    /// It was not renewed for this long.
    Silent(SignedDuration),
    /// Its newest object cannot be read.
    Unreadable,
}

impl SessionView {
    /// How alive it looks at this moment of the store's clock, from this process.
    pub fn liveness(
        &self,
        store_now: Timestamp,
        timing: &SessionTiming,
        here: &ProcessFacts,
        look: impl FnOnce(u32) -> Seen,
    ) -> Liveness {
        let Ok(record) = &self.record else {
            return Liveness::Unreadable;
        };
        let silence = store_now.duration_since(record.renewed_at);
        if record.ended {
            Liveness::Ended
        } else if record.process.is_dead(here, look) {
            Liveness::Dead
        } else if silence > SignedDuration::try_from(timing.silent_after).unwrap_or(SignedDuration::MAX) {
            Liveness::Silent(silence)
        } else {
            Liveness::Live
        }
    }
}

/// What became of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It lives: nothing was done.
    Lives,
    /// It had ended itself.
    HadEnded,
    /// Its backup is void now.
    Voided,
    /// Its backup was void before.
    WasVoid,
    /// Its backup is committed.
    Committed,
    /// It takes no backup and is silent or dead: it counts as over. A reader that wakes notices what is missing.
    Over,
}

impl Ending {
    /// Whether what the session pins and adopts no longer counts.
    pub fn is_over(self) -> bool {
        self != Ending::Lives
    }
}

/// Every session of a deployment. One that cannot be read is listed as such.
pub async fn list_sessions(deployment: &Deployment) -> Result<Vec<SessionView>> {
    let folder = layout::sessions_folder(deployment.name());
    let mut writers = BTreeMap::<WriterId, Vec<u32>>::new();
    let mut came = BTreeMap::<WriterId, Vec<u32>>::new();
    let mut objects = Objects::under(deployment.store(), folder.clone());
    while let Some(object) = objects.next().await? {
        if let Some((writer, sequence)) = layout::session_object(&folder, &object.key) {
            writers.entry(writer).or_default().push(sequence);
        } else if let Some((writer, sequence)) = layout::progress_object(&folder, &object.key) {
            came.entry(writer).or_default().push(sequence);
        }
    }
    let sessions = writers.into_iter().map(|(writer, sequences)| {
        let progress = came.remove(&writer).unwrap_or_default();
        (writer, sequences, progress)
    });
    let sessions: Vec<_> = sessions.collect();
    let views = sessions
        .into_iter()
        .map(|(writer, mut sequences, mut progress)| async move {
            sequences.sort_unstable();
            progress.sort_unstable();
            let newest = sequences.last().copied().unwrap_or_default();
            let record = match SessionRecord::read(deployment, writer, newest).await {
                Ok(Some(record)) => Ok(record),
                // Only what is over is ever removed, its newest object last.
                Ok(None) => return Ok(None),
                Err(error) if error.is(code::repository::OBJECT_CORRUPT) || error.is(code::storage::CORRUPT) => {
                    Err(error)
                }
                Err(error) => return Err(error),
            };
            Ok(Some(SessionView {
                writer,
                sequences,
                progress,
                record,
            }))
        });
    let views: Vec<Option<SessionView>> = stream::iter(views).buffered(AT_ONCE).try_collect().await?;
    Ok(views.into_iter().flatten().collect())
}

/// The sessions of a deployment at one look.
#[derive(Debug)]
pub struct Sessions {
    /// All of them.
    pub views: Vec<SessionView>,
    /// The store's clock, from before the look: a session that was renewed meanwhile must not look older than it is.
    pub now: Timestamp,
}

impl Sessions {
    /// Looks.
    pub async fn look(deployment: &Deployment) -> Result<Sessions> {
        let now = deployment.store().clock_lately(LATELY).await?.time;
        let views = list_sessions(deployment).await?;
        Ok(Sessions { views, now })
    }

    /// The sessions of others than `own` that may still rely on what they pin and adopt: not ended, and without a void or
    /// manifest at their backup's name. Silent backups count until [`end_session`] voided them; silent readers do not.
    pub async fn open(
        &self,
        deployment: &Deployment,
        own: Option<WriterId>,
        timing: &SessionTiming,
        here: &ProcessFacts,
    ) -> Vec<&SessionView> {
        let mut looks = Vec::new();
        for view in self.views.iter().filter(|view| Some(view.writer) != own) {
            looks.push(self.is_over(view, deployment, timing, here));
        }
        let over: Vec<(&SessionView, bool)> = stream::iter(looks).buffered(AT_ONCE).collect().await;
        over.into_iter()
            .filter_map(|(view, over)| (!over).then_some(view))
            .collect()
    }

    async fn is_over<'a>(
        &self,
        view: &'a SessionView,
        deployment: &Deployment,
        timing: &SessionTiming,
        here: &ProcessFacts,
    ) -> (&'a SessionView, bool) {
        let over = match (&view.record, view.liveness(self.now, timing, here, super::look)) {
            (_, Liveness::Ended) => true,
            (Ok(record), liveness) => match &record.purpose {
                Purpose::Backup { backup_id } => !matches!(
                    Manifest::load(deployment, backup_id).await,
                    Ok(StoredManifest::Absent) | Err(_)
                ),
                _ => matches!(liveness, Liveness::Dead | Liveness::Silent(_)),
            },
            (Err(_), _) => false,
        };
        (view, over)
    }
}

/// Ends a session that is silent or proven dead; a live one, and one that cannot be read, is left alone.
pub async fn end_session(
    deployment: &Deployment,
    view: &SessionView,
    timing: &SessionTiming,
    here: &ProcessFacts,
) -> Result<Ending> {
    let now = deployment.store().clock_lately(LATELY).await?.time;
    let why = match view.liveness(now, timing, here, super::look) {
        Liveness::Ended => return Ok(Ending::HadEnded),
        Liveness::Live | Liveness::Unreadable => return Ok(Ending::Lives),
        Liveness::Dead => "its process is dead".to_owned(),
        Liveness::Silent(time) => format!("its session was silent for {} seconds", time.as_secs()),
    };
    let Some(backup_id) = view.record.as_ref().ok().and_then(SessionRecord::backup_id) else {
        return Ok(Ending::Over);
    };
    Ok(match void_backup(deployment, backup_id, &why).await? {
        Voided::Now => Ending::Voided,
        Voided::Already => Ending::WasVoid,
        Voided::Committed => Ending::Committed,
    })
}

impl SessionView {
    /// Removes what tells how far its backup came, once nobody can take that over any more. Only for the collector.
    pub(crate) async fn forget_progress(&self, deployment: &Deployment) -> Result<()> {
        deployment.writable()?;
        for sequence in &self.progress {
            let key = layout::progress(deployment.name(), &self.writer, *sequence);
            deployment.store().delete(&key).await?;
        }
        Ok(())
    }

    /// Removes the objects of a session that is over, oldest first, all but the newest `keep`. Only for the collector.
    pub(crate) async fn forget(&self, deployment: &Deployment, keep: usize) -> Result<()> {
        deployment.writable()?;
        let count = self.sequences.len().saturating_sub(keep);
        for sequence in self.sequences.iter().take(count) {
            let key = layout::session(deployment.name(), &self.writer, *sequence);
            deployment.store().delete(&key).await?;
        }
        Ok(())
    }
}
