//! `pg_hardstorage`: parses the command line, calls the engine, prints a report, ends with the exit code of the table.

mod agent;
mod allocator;
mod app;
mod args;
mod commands;
mod config;
mod metrics;
mod paths;
mod printer;
mod serve;
mod signals;
mod usage;
mod version;

use std::process::ExitCode;

use clap::Parser;
use hardstorage_report::{Error, code};

use crate::app::App;
use crate::args::{Cli, Command, WalCommand};
use crate::printer::Printer;

fn main() -> ExitCode {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    // The restore_command has exit codes of its own, for every way in which it can end.
    if commands::fetch::is_meant(&arguments) {
        return commands::fetch::guarded(|| run(&arguments));
    }
    ExitCode::from(run(&arguments))
}

/// Runs one command and gives its exit code.
fn run(arguments: &[std::ffi::OsString]) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage::answer(&error, arguments),
    };
    if let Some(parent) = cli.global.exit_with_parent
        && let Err(error) = signals::exit_with(parent)
    {
        Printer::new(cli.global.output, false, false, jiff::tz::TimeZone::UTC)
            .error(commands::name(&cli.command), &error);
        return error.exit_code();
    }
    if matches!(cli.command, Command::Wal(WalCommand::Stream(_))) {
        allocator::stay_small(arguments);
    }
    // One provider for every TLS connection, chosen before the first one.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider was installed before");
    }
    let app = match App::new(&cli.global) {
        Ok(app) => app,
        Err((printer, error)) => {
            printer.error(commands::name(&cli.command), &error);
            return error.exit_code();
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers(&cli.command))
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = Error::new(code::cli::INTERNAL, "start the runtime").source(error);
            app.printer.error(commands::name(&cli.command), &error);
            return error.exit_code();
        }
    };
    let exit = runtime.block_on(commands::dispatch(&app, cli.command));
    // A blocked read of a dead mount must not hold the process after its answer was given.
    runtime.shutdown_background();
    exit
}

/// Threads that wait for sockets and run what is spawned. Beside one, a second would be woken for every commit that waits for
/// the stream, only to see that there is nothing to do. (Where a directory is waited for, the stream has a thread of its own.)
fn workers(command: &Command) -> usize {
    match command {
        Command::Wal(WalCommand::Stream(args)) if args.synchronous => 1,
        _ => 2,
    }
}
