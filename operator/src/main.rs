//! The operator: `Repository`, `Deployment`, `BackupSchedule`, `Backup` and `Restore` of hardstorage.dev become streams, Jobs
//! and CronJobs that run the engine's image. It links no engine and reads no credential.
//!
//! Each kind is a folder, each reconcile goes `fetch -> validate -> build -> apply -> status`, and `build` is pure.

mod access;
mod allocator;
mod apply;
mod backup;
mod condition;
mod context;
mod controllers;
mod deployment;
mod error;
mod guarded;
mod job;
mod lease;
mod metrics;
mod names;
mod namespace;
mod object_metrics;
mod pod;
mod release;
#[cfg(test)]
mod remembering;
mod report;
mod repository;
mod restore;
mod run;
mod schedule;
#[cfg(test)]
mod scripted;
mod serve;
mod settings;
mod unfinished;
mod window;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};
use tracing_subscriber::EnvFilter;

/// Threads: nearly all of the time all of them wait for answers.
const THREADS: usize = 2;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    if let Err(error) = allocator::stay_small(&std::env::args_os().collect::<Vec<_>>()) {
        // It runs as well without; only larger.
        tracing::debug!(%error, "the program could not start itself again");
    }
    // Two of the libraries could bring one each; this one is used everywhere.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        tracing::debug!("a provider of TLS was installed already");
    }
    // What it needs to run, the subcommand does not need.
    let matches = settings::Settings::command()
        .subcommand(release::Release::command().name("release"))
        .subcommand_negates_reqs(true)
        .get_matches();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build();
    let outcome = match (runtime, matches.subcommand()) {
        (Err(error), _) => Err(error.into()),
        (Ok(runtime), Some((_, of_release))) => match release::Release::from_arg_matches(of_release) {
            Ok(release) => runtime.block_on(release::release(release)),
            Err(error) => error.exit(),
        },
        (Ok(runtime), None) => match settings::Settings::from_arg_matches(&matches) {
            Ok(settings) => runtime.block_on(run::run(settings)),
            Err(error) => error.exit(),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the operator ends");
            ExitCode::FAILURE
        }
    }
}
