//! One file for each command: it resolves what it needs, calls the engine, prints the report.

pub(crate) mod backup_take;
pub(crate) mod fetch;
pub(crate) mod init;
pub(crate) mod preflight;
pub(crate) mod restore;
pub(crate) mod run;
pub(crate) mod stream;
pub(crate) mod verify;

use std::future::Future;

use hardstorage_report::Result;

use crate::app::App;
use crate::args::{Command, WalCommand};
use crate::printer::Report;

/// The name of a command in documents and messages.
pub(crate) fn name(command: &Command) -> &'static str {
    match command {
        Command::Version => "version",
        _ => "pg_hardstorage",
    }
}

/// Program and version, as the repository remembers who wrote.
pub(crate) fn version_line() -> String {
    format!("pg_hardstorage {}", env!("CARGO_PKG_VERSION"))
}

/// Runs a command and gives the exit code.
pub(crate) async fn dispatch(app: &App, command: Command) -> u8 {
    match command {
        Command::Init(args) => init::run(app, args).await,
        Command::Backup(args) => backup_take::run(app, args.take).await,
        Command::Restore(args) => restore::run(app, *args).await,
        Command::Wal(WalCommand::Preflight {
            deployment,
            pg_connection,
            slot,
        }) => preflight::run(app, deployment, pg_connection.as_deref(), slot.as_deref()).await,
        Command::Wal(WalCommand::Stream(args)) => stream::run(app, *args).await,
        Command::Wal(WalCommand::Fetch(args)) => fetch::run(app, args).await,
        Command::Wal(WalCommand::Prefetch(args)) => fetch::run_ahead(app, args).await,
        Command::Verify(args) => verify::run(app, args).await,
        _ => 2,
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
