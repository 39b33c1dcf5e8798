//! `verify DEPLOYMENT [BACKUP]`: prove that a backup can be restored.

use std::path::{Path, PathBuf};

use hardstorage_engine::restore::{Owner, parse_owner};
use hardstorage_engine::verify::{Programs, ScratchPlan, VerifyPlan, VerifyResult, prove_by_restore, run_verify};
use hardstorage_report::{ByteSize, Error, Result, code};
use hardstorage_repository::Mode;

use super::backup_take::default_jobs;
use super::run::{Running, reported};
use crate::app::App;
use crate::args::{BackupChoice, VerifyArgs, VerifyMode};
use crate::printer::Report;

/// Files of one damaged object that a person is shown.
const FILES_SHOWN: usize = 20;

impl Report for VerifyResult {
    fn text(&self) -> String {
        let mut out = format!(
            "{} {} ({})\n\
             Signature:  ed25519 / {}\n\
             Packs:      {}\n\
             Files:      {} whole, {}\n\
             Frames:     {} decoded\n\
             WAL:        {}{}\n\
             Duration:   {:.1} s\n",
            if self.ok { "✓" } else { "✗" },
            self.backup_id,
            self.level,
            self.signer,
            self.packs,
            self.files,
            ByteSize(self.bytes),
            self.frames,
            if self.wal_complete {
                "consistent by itself"
            } else {
                "NOT whole up to the backup's end"
            },
            self.wal_until.map_or_else(String::new, |end| format!(
                ", continuous to {end} on timeline {}",
                self.timeline
            )),
            self.duration_ms as f64 / 1000.0,
        );
        if let Some(hole) = &self.wal_hole {
            let why = hole
                .recorded
                .as_ref()
                .map_or_else(String::new, |why| format!(": {why}"));
            out.push_str(&format!(
                "! Behind it the WAL has a hole from {} to {}{why}: recovery from this backup ends there\n",
                hole.from, hole.to
            ));
        }
        for damage in &self.damage {
            let frame = damage.frame.map_or_else(String::new, |frame| format!(" frame {frame}"));
            out.push_str(&format!("✗ {}{frame}: {}\n", damage.object, damage.reason));
            for file in damage.files.iter().take(FILES_SHOWN) {
                out.push_str(&format!("    {file}\n"));
            }
            if let Some(more) = damage.files.len().checked_sub(FILES_SHOWN).filter(|more| *more > 0) {
                out.push_str(&format!("    and {more} more, all of them with -o json\n"));
            }
        }
        for backup in &self.also_hurt {
            out.push_str(&format!("✗ also hurt: {backup}\n"));
        }
        if self.postgres_files > 0 {
            out.push_str(&format!(
                "Manifest:   {} files as PostgreSQL listed them\n",
                self.postgres_files
            ));
        }
        if let Some(proof) = &self.restore {
            out.push_str(&format!(
                "Restored:   PostgreSQL recovered in {:.1} s and answered {:?} to {}\n",
                proof.recovery_ms as f64 / 1000.0,
                proof.answer,
                proof.query,
            ));
        }
        if let Some(failure) = self.failure() {
            out.push_str(&format!("  hint: {}\n", failure.hint_text()));
        }
        out
    }
}

fn exit(result: &VerifyResult) -> u8 {
    result.failure().map_or(0, |error| error.exit_code())
}

/// Runs it.
pub(crate) async fn run(app: &App, args: VerifyArgs) -> u8 {
    let run_args = args.run.clone();
    let work = |running: Running| async move { verify(app, &args, running).await };
    reported(app, "verify", &run_args, work, exit).await
}

async fn verify(app: &App, args: &VerifyArgs, running: Running) -> Result<VerifyResult> {
    let url = app.repo_url(&args.repo, Some(&args.deployment))?;
    let repository = app.repository_of(&url, Mode::Read, &args.deployment).await?;
    let deployment = repository.deployment(&args.deployment).await?;
    let stop = App::stop()?;
    let jobs = args.jobs.map_or_else(default_jobs, usize::from);
    let plan = VerifyPlan {
        backup: match &args.backup {
            BackupChoice::Latest => None,
            BackupChoice::Id(id) => Some(id.clone()),
        },
        structure_only: args.structure,
        jobs,
        run_id: args.run.run_id.clone(),
    };
    let mut result = run_verify(&deployment, &plan, running.sink.clone(), stop.drain.clone()).await?;
    if args.restore && result.damage.is_empty() && result.wal_complete {
        let scratch = ScratchPlan {
            backup: result.backup_id.clone(),
            parent: args.scratch.clone().unwrap_or_else(std::env::temp_dir),
            pg_bin: args.pg_bin.clone(),
            query: args.query.clone(),
            database: args.database.clone(),
            jobs,
            owner: unprivileged()?,
        };
        result.restore = Some(prove_by_restore(&deployment, &scratch, running.sink, stop.drain).await?);
        result.level = "restore";
    }
    Ok(result)
}

/// PostgreSQL does not run as root: the scratch copy then belongs to `nobody`.
fn unprivileged() -> Result<Option<Owner>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let table = |path: &str| {
        std::fs::read_to_string(path).map_err(|error| Error::new(code::cli::IO, format!("read {path}")).source(error))
    };
    parse_owner("nobody", &table("/etc/passwd")?, &table("/etc/group")?).map(Some)
}

fn no_verifybackup() -> Error {
    Error::new(code::engine::PROGRAMS, "pg_verifybackup was not found on this machine")
}

/// Refuses, before anything is restored, a verifier that is demanded and missing, or named and of another version.
pub(crate) fn verifybackup_is_ready(mode: VerifyMode, pg_bin: Option<&Path>, version: &str) -> Result<()> {
    if mode == VerifyMode::Skip {
        return Ok(());
    }
    let major = version.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    match (mode, Programs::find(pg_bin, major, "pg_verifybackup")?) {
        (VerifyMode::Require, None) => Err(no_verifybackup()),
        _ => Ok(()),
    }
}

/// Runs PostgreSQL's own verifier over what was restored.
pub(crate) async fn verifybackup(mode: VerifyMode, pg_bin: Option<&Path>, target: &Path) -> Result<Option<String>> {
    if mode == VerifyMode::Skip {
        return Ok(None);
    }
    let (pg_bin, target): (Option<PathBuf>, PathBuf) = (pg_bin.map(Path::to_owned), target.to_owned());
    let checked =
        tokio::task::spawn_blocking(move || hardstorage_engine::verify::verifybackup(pg_bin.as_deref(), &target));
    let verdict = checked
        .await
        .map_err(|error| Error::new(code::cli::INTERNAL, "run pg_verifybackup").source(error))??;
    match (mode, verdict) {
        (VerifyMode::Require, None) => Err(no_verifybackup()),
        (_, verdict) => Ok(verdict),
    }
}
