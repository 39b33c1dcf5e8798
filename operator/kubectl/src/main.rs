//! `kubectl hardstorage`: what the objects of hardstorage.dev say, on one screen, and the objects that a person writes most
//! often. It speaks to the API server as the person who runs it, and needs no right that they do not have.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod args;
mod backup;
mod complete;
mod connect;
mod doctor;
mod drill;
mod error;
mod logs;
mod look;
mod output;
mod protection;
mod restore;
mod status;
mod unprotected;
mod wait;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Args, Command};
use connect::Session;
use error::Result;

#[tokio::main]
async fn main() -> ExitCode {
    // Two of the libraries could bring one each; a second call by one of them would be an error and no harm.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let words: Vec<String> = std::env::args().collect();
    if let Some(answer) = complete::answer(&Args::command(), &words) {
        print!("{answer}");
        return ExitCode::SUCCESS;
    }
    match run(Args::parse()).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("  hint: {hint}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(args: Args) -> Result<u8> {
    if let Command::Completion { shell } = args.command {
        let mut command = Args::command();
        clap_complete::generate(shell, &mut command, "kubectl-hardstorage", &mut std::io::stdout());
        return Ok(0);
    }
    let session = Session::open(&args.scope).await?;
    match args.command {
        Command::Status(wanted) => status::run(&session, &wanted).await,
        Command::Backup(wanted) => backup::run(&session, &wanted).await,
        Command::Restore(wanted) => restore::run(&session, &wanted).await,
        Command::Drill(wanted) => drill::run(&session, &wanted).await,
        Command::Logs(wanted) => logs::run(&session, &wanted).await,
        Command::Doctor(wanted) => doctor::run(&session, &wanted).await,
        Command::Completion { .. } => Ok(0),
    }
}
