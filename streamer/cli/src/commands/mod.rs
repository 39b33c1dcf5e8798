//! One file for each command: it resolves what it needs, calls the engine, prints the report.

pub(crate) mod agent;
mod audit;
pub(crate) mod backup_take;
mod collection;
mod columns;
pub(crate) mod doctor;
pub(crate) mod drill;
pub(crate) mod fetch;
pub(crate) mod init;
pub(crate) mod keys;
pub(crate) mod list;
pub(crate) mod marks;
pub(crate) mod meta;
pub(crate) mod preflight;
pub(crate) mod push;
mod recovery;
pub(crate) mod repo;
pub(crate) mod restore;
mod restore_text;
pub(crate) mod retention;
pub(crate) mod run;
#[cfg(test)]
mod samples;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod stream;
pub(crate) mod verify;
pub(crate) mod wal;

use std::future::Future;

use hardstorage_report::Result;

use crate::app::App;
use crate::args::{
    AuditCommand, BackupCommand, BackupVerb, Command, DrillCommand, KeyringCommand, RepoCommand, SelfCommand,
    SlotCommand, WalCommand,
};
use crate::printer::Report;

/// The name of a command in documents and messages.
pub(crate) fn name(command: &Command) -> &'static str {
    match command {
        Command::Init(_) => "init",
        Command::Backup(BackupCommand { verb: None, .. }) => "backup",
        Command::Backup(BackupCommand {
            verb: Some(BackupVerb::Delete(_)),
            ..
        }) => "backup delete",
        Command::Backup(BackupCommand {
            verb: Some(BackupVerb::Undelete(_)),
            ..
        }) => "backup undelete",
        Command::Restore(_) => "restore",
        Command::Wal(WalCommand::Preflight { .. }) => "wal preflight",
        Command::Wal(WalCommand::Stream(_)) => "wal stream",
        Command::Wal(WalCommand::Push(_)) => "wal push",
        Command::Wal(WalCommand::Fetch(_)) => "wal fetch",
        Command::Wal(WalCommand::Prefetch(_)) => "wal prefetch",
        Command::Wal(WalCommand::List { .. }) => "wal list",
        Command::Wal(WalCommand::Audit { .. }) => "wal audit",
        Command::Agent(_) => "agent",
        Command::Status(_) => "status",
        Command::Doctor(_) => "doctor",
        Command::List(_) => "list",
        Command::Show(_) => "show",
        Command::Verify(_) => "verify",
        Command::Drill(DrillCommand::Check(_)) => "drill check",
        Command::Rotate(_) => "rotate",
        Command::Hold(_) => "hold",
        Command::Audit(AuditCommand::List(_)) => "audit list",
        Command::Audit(AuditCommand::Verify(_)) => "audit verify",
        Command::Audit(AuditCommand::Anchor(_)) => "audit anchor",
        Command::Repo(RepoCommand::Init { .. }) => "repo init",
        Command::Repo(RepoCommand::Probe { .. }) => "repo probe",
        Command::Repo(RepoCommand::Check { .. }) => "repo check",
        Command::Repo(RepoCommand::Gc(_)) => "repo gc",
        Command::Repo(RepoCommand::Scrub(_)) => "repo scrub",
        Command::Repo(RepoCommand::Heal(_)) => "repo heal",
        Command::Repo(RepoCommand::Usage { .. }) => "repo usage",
        Command::Repo(RepoCommand::Sync { .. }) => "repo sync",
        Command::Keyring(KeyringCommand::Show) => "keyring show",
        Command::Keyring(KeyringCommand::Export { .. }) => "keyring export",
        Command::Keyring(KeyringCommand::Import { .. }) => "keyring import",
        Command::Slot(SlotCommand::Drop { .. }) => "slot drop",
        Command::Own(SelfCommand::Install { .. }) => "self install",
        Command::Version => "version",
        Command::Completion { .. } => "completion",
        Command::Man { .. } => "man",
        Command::Reference { .. } => "reference",
    }
}

/// Program and version, as the repository remembers who wrote.
pub(crate) fn version_line() -> String {
    format!("pg_hardstorage {}", env!("CARGO_PKG_VERSION"))
}

/// Runs a command and gives the exit code.
pub(crate) async fn dispatch(app: &App, command: Command) -> u8 {
    let name = name(&command);
    match command {
        Command::Init(args) => init::run(app, args).await,
        Command::Backup(BackupCommand { verb: None, take }) => backup_take::run(app, take).await,
        Command::Backup(BackupCommand {
            verb: Some(BackupVerb::Delete(args)),
            ..
        }) => {
            let run = args.run.clone();
            run::reported(
                app,
                name,
                &run,
                |running: run::Running| marks::delete(app, args, running),
                run::zero,
            )
            .await
        }
        Command::Backup(BackupCommand {
            verb: Some(BackupVerb::Undelete(args)),
            ..
        }) => {
            let run = args.run.clone();
            run::reported(
                app,
                name,
                &run,
                |running: run::Running| marks::undelete(app, args, running),
                run::zero,
            )
            .await
        }
        Command::Restore(args) => restore::run(app, *args).await,
        Command::Wal(command) => dispatch_wal(app, command).await,
        Command::Agent(args) => agent::run(app, args).await,
        Command::Status(args) => answer(app, name, status::status(app, args)).await,
        Command::Doctor(args) => doctor::run(app, args).await,
        Command::List(args) => match args.deployment.clone() {
            Some(deployment) => answer(app, name, list::list(app, &args, deployment)).await,
            None => answer(app, name, list::list_deployments(app, &args)).await,
        },
        Command::Show(args) => answer(app, name, show::show(app, args)).await,
        Command::Verify(args) => verify::run(app, args).await,
        Command::Drill(DrillCommand::Check(args)) => drill::run(app, name, args).await,
        Command::Rotate(args) => retention::rotate(app, args).await,
        Command::Hold(args) => answer(app, name, marks::hold(app, args)).await,
        Command::Audit(command) => audit::run(app, command).await,
        Command::Repo(command) => repo::run(app, command).await,
        Command::Keyring(command) => answer(app, name, async { keys::keyring(app, command) }).await,
        Command::Slot(SlotCommand::Drop {
            deployment,
            pg_connection,
            slot,
            run,
        }) => {
            let run_id = run.run_id.clone();
            let work = |running: run::Running| async move {
                let dropped = keys::drop_slot(app, deployment, pg_connection.as_deref(), slot.as_deref()).await?;
                keys::slot_dropped(app, &dropped, run_id, &running).await;
                Ok(dropped)
            };
            run::reported(app, name, &run, work, run::zero).await
        }
        Command::Own(SelfCommand::Install { dir }) => answer(app, name, async { keys::install(&dir) }).await,
        Command::Version => answer(app, name, async { Ok(meta::version()) }).await,
        Command::Completion { shell } => answer(app, name, async { Ok(meta::completion(shell)) }).await,
        Command::Man { dir } => answer(app, name, async { meta::man(dir.as_deref()) }).await,
        Command::Reference { what } => answer(app, name, async { Ok(meta::reference(what)) }).await,
    }
}

async fn dispatch_wal(app: &App, command: WalCommand) -> u8 {
    match command {
        WalCommand::Preflight {
            deployment,
            pg_connection,
            slot,
            synchronous,
        } => {
            let (given, slot) = (pg_connection.as_deref(), slot.as_deref());
            preflight::run(app, deployment, given, slot, synchronous).await
        }
        WalCommand::Stream(args) => stream::run(app, *args).await,
        WalCommand::Push(args) => answer(app, "wal push", push::run(app, args)).await,
        WalCommand::Fetch(args) => fetch::run(app, args).await,
        WalCommand::Prefetch(args) => fetch::run_ahead(app, args).await,
        WalCommand::List { deployment, repo } => answer(app, "wal list", wal::list(app, deployment, &repo)).await,
        WalCommand::Audit { deployment, repo } => wal::audit(app, deployment, &repo).await,
    }
}

/// Prints the result or the error of a command, and gives the exit code.
pub(crate) async fn answer<R: Report>(app: &App, name: &str, run: impl Future<Output = Result<R>>) -> u8 {
    match run.await {
        Ok(result) => {
            app.printer.result(name, &result);
            0
        }
        Err(error) => {
            app.printer.error(name, &error);
            error.exit_code()
        }
    }
}
