//! `audit list|verify|anchor`: what was done to a deployment, whether that record can be believed, and the word about
//! its end that is kept elsewhere.

mod anchor;
mod file;
mod list;
mod standing;
mod verify;

use hardstorage_report::{DeploymentName, Result};
use hardstorage_repository::Repository;

pub(crate) use self::standing::AuditLook;
use super::run::{Running, reported, zero};
use crate::app::App;
use crate::args::AuditCommand;

/// Runs one of them.
pub(crate) async fn run(app: &App, command: AuditCommand) -> u8 {
    match command {
        AuditCommand::List(args) => list::run(app, args).await,
        AuditCommand::Verify(args) => {
            let run = args.run.clone();
            let work = |_: Running| async move { verify::verify(app, &args).await };
            reported(app, "audit verify", &run, work, verify::exit).await
        }
        AuditCommand::Anchor(args) => {
            let run = args.run.clone();
            let work = |running: Running| async move { anchor::anchor(app, &args, &running).await };
            reported(app, "audit anchor", &run, work, zero).await
        }
    }
}

/// The one that is named, or all.
async fn chosen(repository: &Repository, name: Option<&DeploymentName>) -> Result<Vec<DeploymentName>> {
    match name {
        Some(name) => Ok(vec![name.clone()]),
        None => repository.deployments().await,
    }
}
