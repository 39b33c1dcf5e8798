//! `wal fetch`, the restore_command: 0 found, 1 proven absent, 126 for everything else.
//!
//! PostgreSQL takes any exit code from 1 to 125 for the end of the archive: it then promotes and drops what follows.
//! So a usage error, a panic, a closed pipe and a broken repository must all end above 125.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use hardstorage_engine::fetch::{Answer, Spool, fetch_ahead, fetch_file};
use hardstorage_engine::restore::TargetTimeline;
use hardstorage_report::{Error, Result, SegmentName, SegmentSize, Timeline, code};
use hardstorage_repository::wal::WalArchive;
use hardstorage_repository::{CatalogEntry, Lineage, Mode};

use crate::app::App;
use crate::args::FetchArgs;

/// What PostgreSQL takes for a failure of the command, not for an answer.
pub(crate) const FAILED: u8 = 126;
/// The hidden command that fetches ahead.
const AHEAD: &str = "prefetch";
/// How long fetching ahead may take.
const AHEAD_LIMIT: Duration = Duration::from_mins(1);

/// Whether these words are a `wal fetch`, however malformed the rest of them is.
pub(crate) fn is_meant(arguments: &[OsString]) -> bool {
    let words: Vec<&str> = arguments.iter().skip(1).filter_map(|word| word.to_str()).collect();
    let wal = words.iter().position(|word| *word == "wal");
    wal.is_some_and(|at| words[at + 1..].contains(&"fetch"))
}

/// Runs the command so that only its own two answers leave it as 0 and 1.
pub(crate) fn guarded(run: impl FnOnce() -> u8) -> ExitCode {
    ExitCode::from(match catch_unwind(AssertUnwindSafe(run)) {
        Ok(code @ (0 | 1)) => code,
        Ok(_) | Err(_) => FAILED,
    })
}

/// Runs it.
pub(crate) async fn run(app: &App, args: FetchArgs) -> u8 {
    match fetch(app, &args).await {
        Ok(Answer::Found) => 0,
        Ok(Answer::Absent(_)) => 1,
        Err(error) => {
            app.printer.error("wal fetch", &error);
            // Never 1, whatever the table says of this error.
            FAILED
        }
    }
}

fn follow(timeline: TargetTimeline) -> Option<Timeline> {
    match timeline {
        TargetTimeline::Latest => None,
        TargetTimeline::Number(timeline) => Some(timeline),
    }
}

fn lineage(args: &FetchArgs) -> Result<Option<Lineage>> {
    let Some(text) = &args.lineage else { return Ok(None) };
    let parsed = Lineage::from_folder(text);
    parsed
        .map(Some)
        .ok_or_else(|| Error::new(code::usage::INVALID, format!("{text:?} is no lineage")))
}

/// The spool lies in `pg_wal` of the recovering server, so that a segment is handed over by a rename.
fn spool(args: &FetchArgs, lineage: Lineage) -> Spool {
    let root = args.spool.clone().unwrap_or_else(|| {
        let folder = args
            .destination
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        folder.unwrap_or(Path::new(".")).join(".pg_hardstorage")
    });
    Spool::new(&root, lineage, follow(args.timeline), usize::from(args.prefetch))
}

async fn fetch(app: &App, args: &FetchArgs) -> Result<Answer> {
    let segment = args.file.parse::<SegmentName>().ok();
    let ahead = segment.filter(|_| args.prefetch > 0);
    // A hit needs no repository at all.
    if let (Some(segment), Some(lineage)) = (ahead, lineage(args)?) {
        let spool = spool(args, lineage);
        if spool.take(segment, &args.destination)? {
            refill(args, &spool, segment)?;
            return Ok(Answer::Found);
        }
    }
    let archive = archive(app, args).await?;
    let answer = fetch_file(&archive, &args.file, follow(args.timeline), &args.destination).await?;
    if let (Some(segment), Answer::Found) = (ahead, &answer) {
        refill(args, &spool(args, archive.lineage()), segment)?;
    }
    Ok(answer)
}

/// Starts fetching ahead when half of the spool is used up. The child lives on after we have answered.
fn refill(args: &FetchArgs, spool: &Spool, segment: SegmentName) -> Result<()> {
    if spool.ahead(segment)? * 2 > usize::from(args.prefetch) {
        return Ok(());
    }
    let failed = |error: std::io::Error| Error::new(code::cli::IO, "fetch ahead").source(error);
    let program = std::env::current_exe().map_err(failed)?;
    let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let wal = words.iter().position(|word| word == "wal").unwrap_or(0);
    if let Some(word) = words[wal..].iter_mut().find(|word| *word == "fetch") {
        *word = AHEAD.into();
    }
    Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map(drop)
        .map_err(failed)
}

/// The hidden command: fills the spool and ends.
pub(crate) async fn run_ahead(app: &App, args: FetchArgs) -> u8 {
    let work = async {
        let segment = args.file.parse::<SegmentName>();
        let segment =
            segment.map_err(|()| Error::new(code::usage::INVALID, format!("{:?} is no segment", args.file)))?;
        let archive = archive(app, &args).await?;
        fetch_ahead(
            &archive,
            segment,
            follow(args.timeline),
            &spool(&args, archive.lineage()),
        )
        .await
    };
    match tokio::time::timeout(AHEAD_LIMIT, work).await {
        Ok(Ok(())) | Err(_) => 0,
        Ok(Err(error)) => {
            app.printer.error("wal prefetch", &error);
            error.exit_code()
        }
    }
}

/// The archive to read from: the lineage and segment size that `restore` wrote down, else those of the newest backup.
async fn archive(app: &App, args: &FetchArgs) -> Result<WalArchive> {
    let url = app.repo_url(&args.repo, Some(&args.deployment))?;
    let repository = app.repository(&url, Mode::Read).await?;
    let deployment = repository.deployment(&args.deployment).await?;
    let size = args.wal_segment_size.map(|bytes| {
        SegmentSize::new(bytes).ok_or_else(|| Error::new(code::usage::INVALID, format!("{bytes} is no segment size")))
    });
    if let (Some(lineage), Some(size)) = (lineage(args)?, size.transpose()?) {
        return Ok(WalArchive::new(deployment, lineage, size));
    }
    let catalog = deployment.backups().await?;
    let wanted = lineage(args)?;
    let newest = catalog.entries.iter().rev().filter_map(CatalogEntry::manifest);
    let stored = newest
        .map(|stored| &stored.manifest)
        .find(|manifest| wanted.is_none_or(|wanted| manifest.lineage == wanted));
    let manifest = stored.ok_or_else(|| {
        Error::new(
            code::repository::BACKUP_MISSING,
            format!("{} has no backup that tells its WAL segment size", args.deployment),
        )
    })?;
    Ok(WalArchive::new(
        deployment.clone(),
        manifest.lineage,
        manifest.server.wal_segment_size,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Vec<OsString> {
        line.iter().map(OsString::from).collect()
    }

    #[test]
    fn every_way_of_writing_it_is_seen() {
        for line in [
            &["x", "wal", "fetch", "db1", "f", "p"][..],
            &["x", "-o", "json", "wal", "fetch"],
            &["x", "wal", "--keyring", "k", "fetch"],
        ] {
            assert!(is_meant(&words(line)), "{line:?}");
        }
        assert!(!is_meant(&words(&["x", "wal", "list", "db1"])));
        assert!(!is_meant(&words(&["x", "fetch", "wal"])));
        assert!(!is_meant(&words(&["x", "wal", "prefetch", "db1", "f", "p"])));
    }

    #[test]
    fn a_panic_is_no_answer() {
        assert_eq!(guarded(|| 0), ExitCode::from(0));
        assert_eq!(guarded(|| 1), ExitCode::from(1));
        assert_eq!(guarded(|| 2), ExitCode::from(FAILED));
        assert_eq!(guarded(|| panic!("on purpose")), ExitCode::from(FAILED));
    }
}
