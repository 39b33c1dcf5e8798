//! `backup DEPLOYMENT`: take a base backup.

use hardstorage_engine::backup::{BackupPlan, BackupResult, run_backup};
use hardstorage_engine::enrol::{Silence, enrol};
use hardstorage_engine::source::Source;
use hardstorage_replication::Checkpoint;
use hardstorage_report::{ByteSize, DeploymentName, Error, Result, code};
use hardstorage_repository::{Mode, Repository};

use super::run::{Running, reported};
use crate::app::App;
use crate::args::{CheckpointArg, TakeArgs};
use crate::printer::Report;

impl Report for BackupResult {
    fn text(&self) -> String {
        let mut out = format!(
            "✓ Backup committed\n\
             ID:              {}\n\
             Deployment:      {}\n\
             PostgreSQL:      {}\n\
             Cluster ID:      {}\n\
             Stop LSN / TLI:  {} / {}\n\
             Files:           {} in {} tablespace(s)\n\
             Logical bytes:   {}\n\
             Stored:          {} (new pages {}, reused {}, zero {})\n\
             Reuse:           {:.1} %{}\n\
             Duration:        {:.1} s\n\
             Encryption:      {}\n\
             Manifest:        {}\n",
            self.backup_id,
            self.deployment,
            self.pg_version,
            self.system_identifier,
            self.stop_lsn,
            self.timeline,
            self.file_count,
            self.tablespace_count,
            ByteSize(self.logical_bytes),
            ByteSize(self.stored_bytes),
            self.new_pages,
            self.reused_pages,
            self.zero_pages,
            self.reuse * 100.0,
            self.ancestor
                .as_ref()
                .map_or_else(String::new, |id| format!(" of {id}")),
            self.duration_ms as f64 / 1000.0,
            if self.encrypted {
                "AES-256-GCM (the deployment's data key, wrapped under the KEK)"
            } else {
                "none"
            },
            self.primary_key,
        );
        out.push_str(if self.pitr_covered {
            "Recovery:        every moment from here on, while the stream runs\n"
        } else {
            "Recovery:        this backup by itself; for every later moment run `pg_hardstorage wal stream`\n"
        });
        for id in &self.resumed {
            out.push_str(&format!(
                "Taken over:      what {id} had done before it was interrupted\n"
            ));
        }
        if self.adopted_pages > 0 {
            out.push_str(&format!(
                "                 {} of the pages reused\n",
                self.adopted_pages
            ));
        }
        if self.server_warnings > 0 {
            out.push_str(&format!(
                "Warnings:        {} of the server, among the events: what it did not send may be missed\n",
                self.server_warnings
            ));
        }
        for file in self.external_files.iter().filter(|file| file.attachment.is_none()) {
            out.push_str(&format!(
                "Not included:    {} ({})\n",
                file.path,
                file.note.as_deref().unwrap_or("-")
            ));
        }
        for page in &self.damaged_pages {
            let block = page.block.map_or_else(|| "-".to_owned(), |block| block.to_string());
            out.push_str(&format!("✗ DAMAGED on the server: {} block {block}\n", page.path));
        }
        out
    }
}

/// Threads when nobody says how many.
pub(crate) fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).min(8)
}

/// The name of this host, for the record.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A backup that was kept although the server's own pages are damaged is not a success.
fn exit(result: &BackupResult) -> u8 {
    if result.damaged_pages.is_empty() {
        0
    } else {
        code::engine::PAGES_DAMAGED.info().exit
    }
}

/// Runs it.
pub(crate) async fn run(app: &App, args: TakeArgs) -> u8 {
    let run_args = args.run.clone();
    let work = |running: Running| async move {
        let name = args
            .deployment
            .clone()
            .ok_or_else(|| Error::new(code::usage::INVALID, "which deployment?"))?;
        let source = app.source(&args.source, &name)?;
        let url = app.repo_url(&args.source.repo, Some(&name))?;
        let repository = app.repository_of(&url, Mode::Write, &name).await?;
        take(app, &repository, &name, source, &args, running).await
    };
    reported(app, "backup", &run_args, work, exit).await
}

/// Takes one into an open repository.
pub(crate) async fn take(
    app: &App,
    repository: &Repository,
    name: &DeploymentName,
    source: Source,
    args: &TakeArgs,
    running: Running,
) -> Result<BackupResult> {
    let max_rate_kib = args.max_rate.map(rate).transpose()?;
    let source_snapshot = match &args.source_snapshot {
        Some(path) => Some(
            std::fs::read(path)
                .map_err(|error| Error::new(code::cli::IO, format!("read {}", path.display())).source(error))?,
        ),
        None => None,
    };
    let deployment = enrol(
        repository,
        name,
        &source,
        Silence::Fails,
        args.run.run_id.clone(),
        running.sink.as_ref(),
    )
    .await?;
    let signer = app.keyring().ensure_signer(deployment.surroundings())?;
    let plan = BackupPlan {
        source,
        stream_slot: Some(app.slot(None, name)?),
        label: args.label.clone(),
        annotations: args.annotations.iter().cloned().collect(),
        checkpoint: match args.checkpoint {
            CheckpointArg::Fast => Checkpoint::Fast,
            CheckpointArg::Spread => Checkpoint::Spread,
        },
        max_rate_kib,
        jobs: args.jobs.map_or_else(default_jobs, usize::from),
        allow_concurrent: args.allow_concurrent,
        accept_new_system: args.accept_new_system,
        source_snapshot,
        run_id: args.run.run_id.clone(),
        host: host_name(),
    };
    // A half backup is worth nothing: the first signal ends it.
    let stop = App::stop()?;
    run_backup(&deployment, &plan, &signer, running.sink, stop.drain).await
}

fn rate(size: ByteSize) -> Result<u32> {
    let kib = size.0 / 1024;
    u32::try_from(kib)
        .ok()
        .filter(|kib| (32..=1_048_576).contains(kib))
        .ok_or_else(|| {
            Error::new(
                code::usage::INVALID,
                format!("--max-rate: PostgreSQL takes 32kB to 1GB a second, not {size}"),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::samples::{HELD, NEW, time};
    use crate::printer::shown;
    use hardstorage_report::{Lsn, SystemId, Timeline};
    use hardstorage_repository::{BackupKind, DamagedPage, ExternalFile};

    fn result() -> BackupResult {
        BackupResult {
            backup_id: NEW.parse().unwrap(),
            deployment: "db1".parse().unwrap(),
            kind: BackupKind::Full,
            pg_version: "18.6".to_owned(),
            system_identifier: SystemId(7_519_000_000_000_000_001),
            start_lsn: Lsn(0x300_0028),
            stop_lsn: Lsn(0x300_0158),
            timeline: Timeline(1),
            duration_ms: 83_250,
            file_count: 1266,
            tablespace_count: 2,
            logical_bytes: 40 << 20,
            stored_bytes: 420_000,
            new_pages: 70,
            reused_pages: 4930,
            zero_pages: 120,
            reuse: 0.986,
            ancestor: Some(HELD.parse().unwrap()),
            resumed: Vec::new(),
            adopted_pages: 0,
            wal_segments_fetched: 0,
            encrypted: true,
            signer: "8796a5b4c3d2e1f0".to_owned(),
            primary_key: format!("manifests/db1/{NEW}"),
            started_at: time("2026-11-22T07:59:36Z"),
            stopped_at: time("2026-11-22T08:01:00Z"),
            damaged_pages: Vec::new(),
            server_warnings: 0,
            external_files: Vec::new(),
            pitr_covered: true,
        }
    }

    #[test]
    fn the_summary_of_a_backup() {
        assert_eq!(exit(&result()), 0);
        insta::assert_snapshot!(shown("backup", &result()));
    }

    #[test]
    fn the_summary_of_one_that_is_not_all_right() {
        let mut result = result();
        (result.encrypted, result.pitr_covered) = (false, false);
        (result.ancestor, result.reuse, result.reused_pages) = (None, 0.0, 0);
        result.external_files.push(ExternalFile {
            path: "/etc/postgresql/pg_hba.conf".to_owned(),
            attachment: None,
            note: Some("permission denied".to_owned()),
        });
        result.damaged_pages.push(DamagedPage {
            path: "base/5/1259".to_owned(),
            block: Some(7),
            reason: "the page's checksum does not hold".to_owned(),
        });
        assert_ne!(exit(&result), 0);
        insta::assert_snapshot!(result.text());
    }

    #[test]
    fn a_rate_that_postgresql_does_not_take_is_refused() {
        assert_eq!(rate(ByteSize(32 << 10)).unwrap(), 32);
        assert_eq!(rate(ByteSize(1 << 30)).unwrap(), 1 << 20);
        for bad in [0, 31 << 10, (1 << 30) + 1024, u64::MAX] {
            assert!(rate(ByteSize(bad)).unwrap_err().is(code::usage::INVALID), "{bad}");
        }
    }
}
