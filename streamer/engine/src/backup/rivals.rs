//! Another backup of the same deployment that is running. To refuse is courtesy: a commit is safe without it.

use hardstorage_report::{Error, Result, Severity, code};
use hardstorage_repository::{ProcessFacts, SessionTiming, Sessions, end_session};
use serde_json::json;

use super::run::Run;

impl Run<'_> {
    /// Looks at the other backups of this deployment, after our own session is there for them to see: of two that
    /// begin at once the later one refuses. This is courtesy; the commit is safe without it.
    pub(super) async fn refuse_beside_another(&self, sessions: &Sessions) -> Result<()> {
        let (timing, here) = (SessionTiming::default(), ProcessFacts::current());
        let ours = self.session.record().await;
        let own = Some(self.session.writer());
        for view in sessions.open(self.deployment, own, &timing, &here).await {
            let Ok(record) = &view.record else { continue };
            let Some(other) = record.backup_id() else { continue };
            if end_session(self.deployment, view, &timing, &here).await?.is_over() {
                self.emit(
                    Severity::Notice,
                    "backup.dead_session_ended",
                    json!({"ended_backup": other}),
                );
                continue;
            }
            let first = (record.opened_at, record.writer) < (ours.opened_at, ours.writer);
            if first && !self.plan.allow_concurrent {
                return Err(Error::new(
                    code::engine::BACKUP_RUNNING,
                    format!(
                        "backup {other} is running on {} (process {})",
                        record.process.host, record.process.pid
                    ),
                ));
            }
        }
        Ok(())
    }
}
