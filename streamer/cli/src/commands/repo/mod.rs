//! `repo init|probe|check|gc|scrub|heal|usage|sync`: the repository as a whole, one file for each.

mod check;
mod gc;
mod heal;
mod init;
mod probe;
mod scrub;
mod sync;
mod usage;

use hardstorage_report::Result;

use super::answer;
use super::run::{Running, reported, zero};
use crate::app::App;
use crate::args::{RepoArg, RepoCommand};

/// Runs one of them.
pub(crate) async fn run(app: &App, command: RepoCommand) -> u8 {
    match command {
        RepoCommand::Init {
            url,
            no_encryption,
            single_writer,
            run,
        } => {
            let work = |_: Running| async move { init::init(app, url, no_encryption, single_writer).await };
            reported(app, "repo init", &run, work, zero).await
        }
        RepoCommand::Probe { url, prove_writes, run } => {
            let work = |_: Running| async move { probe::probe(app, url, prove_writes).await };
            reported(app, "repo probe", &run, work, zero).await
        }
        RepoCommand::Check {
            url,
            repo,
            deployment,
            read_data,
            run,
        } => {
            let work = |running: Running| async move {
                let own = deployment.as_ref().and_then(|name| app.deployment(name).repo);
                let url = url.or_else(|| repo.repo.clone()).or(own);
                check::check(app, &chosen(app, url, &repo)?, deployment, read_data, running).await
            };
            reported(app, "repo check", &run, work, check::exit).await
        }
        RepoCommand::Gc(args) => {
            let run_args = args.run.clone();
            let work =
                |_: Running| async move { gc::gc(app, &chosen(app, args.url.clone(), &args.repo)?, &args).await };
            reported(app, "repo gc", &run_args, work, gc::exit).await
        }
        RepoCommand::Scrub(args) => {
            let run_args = args.run.clone();
            let work =
                |_: Running| async move { scrub::scrub(app, &chosen(app, args.url.clone(), &args.repo)?, &args).await };
            reported(app, "repo scrub", &run_args, work, scrub::exit).await
        }
        RepoCommand::Heal(args) => {
            let run_args = args.run.clone();
            let work =
                |_: Running| async move { heal::heal(app, &chosen(app, args.url.clone(), &args.repo)?, &args).await };
            reported(app, "repo heal", &run_args, work, heal::exit).await
        }
        RepoCommand::Usage { url, repo } => {
            answer(app, "repo usage", async {
                usage::usage(app, &chosen(app, url, &repo)?).await
            })
            .await
        }
        RepoCommand::Sync { url, repo, run } => {
            let work =
                |running: Running| async move { sync::sync(app, &chosen(app, url, &repo)?, &running.live).await };
            reported(app, "repo sync", &run, work, zero).await
        }
    }
}

fn chosen(app: &App, url: Option<String>, repo: &RepoArg) -> Result<String> {
    match url {
        Some(url) => Ok(url),
        None => app.repo_url(repo, None),
    }
}
