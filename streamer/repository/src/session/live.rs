//! The session of this process: opened, renewed by a task, closed.

use std::sync::Arc;

use hardstorage_report::{BackupId, Error, Result, code};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::process::ProcessFacts;
use super::record::{LATELY, Purpose, SessionRecord, SessionTiming};
use crate::document::Made;
use crate::manifest::{Manifest, StoredManifest};
use crate::{BackupState, Deployment, WriterId};

/// How a session is opened.
#[derive(Debug, Clone)]
pub struct Opening {
    /// What it does.
    pub purpose: Purpose,
    /// Backups that must not be collected meanwhile.
    pub pins: Vec<BackupId>,
    /// Dead writers whose packs it takes over.
    pub adopts: Vec<WriterId>,
    /// Whose it is.
    pub process: ProcessFacts,
    /// The scheduler's id of the run.
    pub run_id: Option<String>,
    /// How often it is renewed.
    pub timing: SessionTiming,
}

impl Opening {
    /// Of this process, pinning nothing yet, at the usual pace.
    pub fn new(purpose: Purpose) -> Opening {
        Opening {
            purpose,
            pins: Vec::new(),
            adopts: Vec::new(),
            process: ProcessFacts::current(),
            run_id: None,
            timing: SessionTiming::default(),
        }
    }
}

/// An open session. Dropping it stops the renewals; only [`Session::close`] tells others at once.
#[derive(Debug)]
pub struct Session {
    core: Arc<Core>,
    renewing: JoinHandle<()>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Core {
    deployment: Deployment,
    timing: SessionTiming,
    writer: WriterId,
    now: Mutex<Now>,
    lost: CancellationToken,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Now {
    record: SessionRecord,
    /// Before the store told the time that the last write which succeeded bears.
    renewed: Instant,
}

impl Session {
    /// The session of a reader; `None` where the store takes no writes, because they are not allowed or there is no room,
    /// or where only a later program may write. To bring data back must not depend on any of it: without a session a reader
    /// relies on the day that passes between a purge and the deletion.
    pub async fn open_reader(deployment: &Deployment, opening: Opening) -> Result<Option<Session>> {
        if deployment.descriptor().check_write().is_err() {
            return Ok(None);
        }
        let without = [code::storage::DENIED, code::storage::READ_ONLY, code::storage::FULL];
        match Session::open(deployment, opening).await {
            Ok(session) => Ok(Some(session)),
            Err(error) if without.into_iter().any(|code| error.is(code)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a session, durable on return. What it pins is safe only as far as [`Session::usable_pins`] says after.
    pub async fn open(deployment: &Deployment, opening: Opening) -> Result<Session> {
        deployment.descriptor().check_write()?;
        if matches!(opening.purpose, Purpose::Backup { .. }) {
            deployment.writable()?;
        }
        let writer = WriterId::new(deployment.surroundings().random()?);
        let record = SessionRecord {
            pins: opening.pins,
            adopts: opening.adopts,
            process: opening.process,
            run_id: opening.run_id,
            ..SessionRecord::first(deployment, writer, opening.purpose)
        };
        let stop = CancellationToken::new();
        let core = Arc::new(Core {
            deployment: deployment.clone(),
            timing: opening.timing,
            writer,
            now: Mutex::new(Now {
                record,
                renewed: Instant::now(),
            }),
            lost: CancellationToken::new(),
            stop: stop.clone(),
        });
        core.write(|_| {}).await?;
        Ok(Session {
            renewing: tokio::spawn(core.clone().renew()),
            core,
            _stop: stop.drop_guard(),
        })
    }

    /// The id under which this process writes.
    pub fn writer(&self) -> WriterId {
        self.core.writer
    }

    /// Cancelled when the session is lost: another may have ended it, so that nothing can be committed any more.
    pub fn lost(&self) -> &CancellationToken {
        &self.core.lost
    }

    /// Fails when the session is lost.
    pub fn check(&self) -> Result<()> {
        self.core.check()
    }

    /// What the newest object of this session says.
    pub async fn record(&self) -> SessionRecord {
        self.core.now.lock().await.record.clone()
    }

    /// Pins other backups instead, durable on return; ask [`Session::usable_pins`] after.
    pub async fn pin(&self, pins: Vec<BackupId>) -> Result<()> {
        self.check()?;
        self.core.write(|record| record.pins = pins).await
    }

    /// Adopts other writers instead, durable on return.
    pub(crate) async fn set_adopts(&self, adopts: Vec<WriterId>) -> Result<()> {
        self.check()?;
        self.core.write(|record| record.adopts = adopts).await
    }

    pub(super) fn deployment(&self) -> &Deployment {
        &self.core.deployment
    }

    /// Which of the pinned backups may be used: committed, and no purge was written before our pin. Read after the pin
    /// was durable, so a collector that purges later sees the pin.
    pub async fn usable_pins(&self) -> Result<Vec<BackupId>> {
        let deployment = &self.core.deployment;
        let pins = self.record().await.pins;
        let mut usable = Vec::with_capacity(pins.len());
        for id in pins {
            // The state first: the collector removes it behind the manifest.
            let purged = BackupState::load(deployment, &id).await?.purged.is_some();
            if !purged && matches!(Manifest::load(deployment, &id).await?, StoredManifest::Committed(_)) {
                usable.push(id);
            }
        }
        Ok(usable)
    }

    /// Ends the session with a last object.
    pub async fn close(self) -> Result<()> {
        self.core.stop.cancel();
        let renewal = self.renewing.await;
        renewal.map_err(|error| {
            Error::new(code::repository::SESSION_LOST, "the renewal of the session died").source(error)
        })?;
        self.core.write(|record| record.ended = true).await
    }
}

#[cfg(test)]
impl Session {
    /// Drops the session and gives its task, to wait for its end.
    pub(super) fn dissolve(self) -> JoinHandle<()> {
        self.renewing
    }
}

impl Core {
    fn check(&self) -> Result<()> {
        if self.lost.is_cancelled() {
            let message = format!(
                "session {} could not be renewed in time, or was ended by another",
                self.writer
            );
            return Err(Error::new(code::repository::SESSION_LOST, message));
        }
        Ok(())
    }

    /// Writes the next object. A number is never tried twice: what became of a failed try is not known.
    async fn write(&self, change: impl FnOnce(&mut SessionRecord)) -> Result<()> {
        let mut now = self.now.lock().await;
        let mut next = now.record.clone();
        change(&mut next);
        let heard = self.deployment.store().clock_lately(LATELY).await?;
        next.renewed_at = heard.time;
        next.sequence = next.sequence.checked_add(1).ok_or_else(|| {
            Error::new(
                code::repository::SESSION_LOST,
                format!("session {} has no number left", self.writer),
            )
        })?;
        now.record.sequence = next.sequence;
        match next.write(&self.deployment).await? {
            Made::Ours => {
                now.record = next;
                // Others count from what was heard, and so do we.
                now.renewed = heard.asked;
                Ok(())
            }
            Made::Theirs(_) => {
                self.lost.cancel();
                let message = format!("another process writes under the id of session {}", self.writer);
                Err(Error::new(code::repository::SESSION_LOST, message))
            }
        }
    }

    async fn renew(self: Arc<Self>) {
        let mut pause = self.timing.renew;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.lost.cancelled() => return,
                () = sleep(pause) => {}
            }
            let deadline = self.now.lock().await.renewed + self.timing.lost_after;
            let outcome = tokio::select! {
                biased;
                // A write that is cut off leaves its number used up, so the next one is not disturbed by it.
                () = self.stop.cancelled() => return,
                outcome = timeout_at(deadline, self.renew_once()) => outcome,
            };
            pause = match outcome {
                Ok(Ok(())) => self.timing.renew,
                Ok(Err(error)) if Instant::now() < deadline => {
                    tracing::warn!(session = %self.writer, %error, "the session could not be renewed; trying again");
                    (self.timing.renew / 10).min(deadline - Instant::now())
                }
                _ => {
                    self.lost.cancel();
                    return;
                }
            };
        }
    }

    async fn renew_once(&self) -> Result<()> {
        self.write(|_| {}).await?;
        let backup_id = self.now.lock().await.record.backup_id().cloned();
        let Some(id) = backup_id else { return Ok(()) };
        // Voided: nothing can be committed any more, so there is no use in going on.
        if let StoredManifest::Void(_) = Manifest::load(&self.deployment, &id).await? {
            self.lost.cancel();
        }
        Ok(())
    }
}
