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

use futures::FutureExt as _;
use hardstorage_engine::fetch::{Answer, Spool, fetch_ahead, fetch_file};
use hardstorage_engine::restore::TargetTimeline;
use hardstorage_report::{Error, Result, SegmentName, SegmentSize, Severity, Timeline, code};
use hardstorage_repository::wal::WalArchive;
use hardstorage_repository::{CatalogEntry, Lineage, Mode};
use serde_json::json;

use crate::app::App;
use crate::args::FetchArgs;

/// What PostgreSQL takes for a failure of the command, not for an answer.
pub(crate) const FAILED: u8 = 126;
/// The hidden command that fetches ahead.
const AHEAD: &str = "prefetch";
/// How long fetching ahead may take.
const AHEAD_LIMIT: Duration = Duration::from_mins(1);
/// How long to wait for a segment that is being fetched ahead, before it is fetched again.
const PATIENCE: Duration = Duration::from_secs(5);

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
    let ahead = args.file.parse::<SegmentName>().ok().filter(|_| args.prefetch > 0);
    let known = lineage(args)?;
    // A hit needs no repository at all.
    if let (Some(segment), Some(lineage)) = (ahead, known)
        && from_spool(app, args, &spool(args, lineage), segment).await
    {
        return Ok(Answer::Found);
    }
    let archive = archive(app, args).await?;
    if let (Some(segment), None) = (ahead, known)
        && from_spool(app, args, &spool(args, archive.lineage()), segment).await
    {
        return Ok(Answer::Found);
    }
    let answer = fetch_file(&archive, &args.file, follow(args.timeline), &args.destination).await?;
    if let (Some(segment), Answer::Found) = (ahead, &answer) {
        refill(app, &spool(args, archive.lineage()), segment, archive.segment_size());
    }
    Ok(answer)
}

/// Serves a segment that was fetched ahead. Whatever is wrong with the spool, the repository still has the segment.
async fn from_spool(app: &App, args: &FetchArgs, spool: &Spool, segment: SegmentName) -> bool {
    let taken = async {
        if let Some(size) = spool.take(segment, &args.destination)? {
            return Ok(Some(size));
        }
        let waiting = tokio::task::spawn_blocking({
            let spool = spool.clone();
            move || spool.wait_for(segment)
        });
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(Ok(waited)) => waited?,
            Ok(Err(_)) | Err(_) => return Ok(None),
        }
        spool.take(segment, &args.destination)
    };
    match taken.await {
        Ok(Some(size)) => {
            refill(app, spool, segment, size);
            true
        }
        Ok(None) => false,
        Err(error) => {
            spool_trouble(app, &error);
            false
        }
    }
}

fn spool_trouble(app: &App, error: &Error) {
    app.tell(
        Severity::Warning,
        "wal.prefetch_failed",
        json!({"message": format!("segments cannot be fetched ahead: {error}")}),
    );
}

/// Fetches ahead when less than half is left; a segment that was served stays served, whatever becomes of this.
fn refill(app: &App, spool: &Spool, segment: SegmentName, size: SegmentSize) {
    let started = spool
        .is_low(segment, size)
        .and_then(|low| if low { start_ahead() } else { Ok(()) });
    if let Err(error) = started {
        spool_trouble(app, &error);
    }
}

/// Starts the hidden command with our own words. It lives on after we have answered.
fn start_ahead() -> Result<()> {
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
    let limited = AssertUnwindSafe(tokio::time::timeout(AHEAD_LIMIT, work));
    if let Ok(Ok(Err(error))) = limited.catch_unwind().await {
        app.printer.error("wal prefetch", &error);
    }
    // In a container the orphan becomes a child of the postmaster, if that is the first process there; and a postmaster
    // takes an unknown child that ends with more than 1 for a crashed backend, and restarts.
    0
}

/// The archive to read from: the lineage and segment size that `restore` wrote down, else those of the newest backup.
async fn archive(app: &App, args: &FetchArgs) -> Result<WalArchive> {
    let url = app.repo_url(&args.repo, Some(&args.deployment))?;
    let repository = app.repository_of(&url, Mode::Read, &args.deployment).await?;
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
            format!(
                "{} has no backup that tells the lineage and segment size of its WAL",
                args.deployment
            ),
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
