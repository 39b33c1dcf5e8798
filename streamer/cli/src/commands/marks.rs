//! `hold`, `backup delete` and `backup undelete`: what a person says of one backup.

use std::io::IsTerminal;

use hardstorage_engine::audit;
use hardstorage_report::{BackupId, DeploymentName, Error, EventSink, Result, code};
use hardstorage_repository::{Action, AuditAction, AuditEvent, BackupState, CatalogEntry, Deployment, Mode};
use serde::Serialize;

use super::run::Running;
use super::show::chosen;
use crate::app::App;
use crate::args::{BackupChoice, HoldArgs, MarkArgs, RepoArg};
use crate::printer::Report;

/// A backup whose state was changed.
#[derive(Debug, Serialize)]
pub(crate) struct StateResult {
    backup_id: BackupId,
    done: &'static str,
    #[serde(flatten)]
    state: BackupState,
}

impl Report for StateResult {
    fn text(&self) -> String {
        format!("✓ {} {}\n", self.backup_id, self.done)
    }
}

/// Where a change is recorded.
struct Audit<'a> {
    run_id: Option<String>,
    sink: &'a dyn EventSink,
}

impl Audit<'_> {
    async fn record(&self, deployment: &Deployment, id: &BackupId, action: Action) {
        let (action, reason) = match action {
            Action::Hold { reason } => (AuditAction::BackupHeld, Some(reason)),
            Action::Release => (AuditAction::BackupReleased, None),
            Action::Delete { reason } => (AuditAction::BackupDeleted, Some(reason)),
            Action::Undelete => (AuditAction::BackupUndeleted, None),
            // The collector's, which records it before.
            Action::Purge => return,
        };
        let mut event = AuditEvent::new(action, self.run_id.clone()).backup(id);
        if let Some(reason) = reason {
            event = event.reason(&reason);
        }
        audit::record(deployment, &event, self.sink).await;
    }
}

async fn change(
    app: &App,
    repo: &RepoArg,
    (name, choice): (&DeploymentName, BackupChoice),
    (action, done): (Action, &'static str),
    audit: Audit<'_>,
) -> Result<StateResult> {
    let url = app.repo_url(repo, Some(name))?;
    let deployment = app.repository(&url, Mode::Write).await?.deployment(name).await?;
    let catalog = deployment.backups().await?;
    let id = &chosen(&catalog, name, choice)?;
    let Some(known) = catalog.get(id).filter(|entry| entry.manifest().is_some()) else {
        return Err(Error::new(
            code::repository::BACKUP_MISSING,
            format!("there is no backup {id}"),
        ));
    };
    if matches!(action, Action::Delete { .. }) {
        refuse_the_last(&catalog.entries, id)?;
    }
    let state = BackupState::change(&deployment, id, action.clone()).await?;
    // What was so already was not done.
    let before = known.state.as_ref().map_or(0, |state| state.sequence);
    if state.sequence != before {
        audit.record(&deployment, id, action).await;
    }
    Ok(StateResult {
        backup_id: id.clone(),
        done,
        state,
    })
}

/// The last backup is what stands between its owner and nothing.
fn refuse_the_last(entries: &[CatalogEntry], id: &BackupId) -> Result<()> {
    let others = entries
        .iter()
        .filter(|entry| entry.is_usable() && entry.backup_id != *id)
        .count();
    if others == 0 {
        return Err(Error::new(
            code::repository::HELD,
            format!("{id} is the last backup of its deployment"),
        )
        .hint("take a new backup first"));
    }
    Ok(())
}

/// `hold DEPLOYMENT BACKUP`.
pub(crate) async fn hold(app: &App, args: HoldArgs) -> Result<StateResult> {
    let reason = args.reason.unwrap_or_else(|| "held by hand".to_owned());
    let (action, done) = if args.release {
        (Action::Release, "is released")
    } else {
        (Action::Hold { reason }, "is held")
    };
    let audit = Audit {
        run_id: None,
        sink: app.printer.as_ref(),
    };
    let (repo, choice) = (args.repo, args.backup);
    change(app, &repo, (&args.deployment, choice), (action, done), audit).await
}

/// `backup delete DEPLOYMENT BACKUP`.
pub(crate) async fn delete(app: &App, args: MarkArgs, running: Running) -> Result<StateResult> {
    if !args.yes && !std::io::stdin().is_terminal() {
        return Err(Error::new(code::usage::INVALID, "deleting a backup asks for a word").hint("say --yes"));
    }
    let reason = args.reason.clone().unwrap_or_else(|| "deleted by hand".to_owned());
    let action = (Action::Delete { reason }, "is marked deleted");
    mark(app, &args, action, &running).await
}

/// `backup undelete DEPLOYMENT BACKUP`.
pub(crate) async fn undelete(app: &App, args: MarkArgs, running: Running) -> Result<StateResult> {
    mark(app, &args, (Action::Undelete, "is back"), &running).await
}

async fn mark(app: &App, args: &MarkArgs, action: (Action, &'static str), running: &Running) -> Result<StateResult> {
    let audit = Audit {
        run_id: args.run.run_id.clone(),
        sink: running.sink.as_ref(),
    };
    let choice = BackupChoice::Id(args.backup.clone());
    change(app, &args.repo, (&args.deployment, choice), action, audit).await
}
