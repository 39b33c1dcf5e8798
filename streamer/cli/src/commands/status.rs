//! `status`: whether the deployments are protected, now.

use hardstorage_engine::catalogue::record;
use hardstorage_engine::restore::both_zones;
use hardstorage_engine::source::{identify, slot_name};
use hardstorage_engine::wal::lineages;
use hardstorage_engine::window::{RecoverableWindow, recoverable_window};
use hardstorage_report::{BackupId, BackupRecord, ByteSize, DeploymentName, Lsn, Result, SystemId, Timeline};
use hardstorage_repository::wal::WalArchive;
use hardstorage_repository::{CatalogEntry, Mode, Repository};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::audit::AuditLook;
use super::columns::{age, dash};
use crate::app::App;
use crate::args::StatusArgs;
use crate::printer::Report;

/// One deployment of the status.
#[derive(Debug, Serialize)]
pub(super) struct DeploymentStatus {
    pub(super) deployment: DeploymentName,
    pub(super) backup_count: usize,
    pub(super) healthy: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) problems: Vec<String>,
    pub(super) latest_backup_id: Option<BackupId>,
    pub(super) latest_stopped_at: Option<Timestamp>,
    pub(super) latest_stop_lsn: Option<Lsn>,
    pub(super) timeline: Option<Timeline>,
    /// The cluster that the newest backup is of.
    pub(super) system_identifier: Option<SystemId>,
    /// End of the durable WAL.
    pub(super) durable_lsn: Option<Lsn>,
    /// When that end was stored, by the clock of the store. An archive_command brings a segment when it ends.
    pub(super) wal_arrived_at: Option<Timestamp>,
    /// Bytes of the server's WAL that are not durable yet; unknown without a connection.
    pub(super) wal_lag_bytes: Option<u64>,
    pub(super) recoverable: Option<RecoverableWindow>,
    /// Seconds from the latest recoverable moment to now: what a loss of the server would cost.
    pub(super) rpo_seconds: Option<i64>,
    pub(super) gaps: usize,
    pub(super) held: usize,
    pub(super) deleted: usize,
    /// How far the audit chain is anchored.
    pub(super) audit_anchor: AuditLook,
}

/// Every deployment.
#[derive(Debug, Serialize)]
pub(crate) struct StatusResult {
    repo_url: String,
    deployments: Vec<DeploymentStatus>,
    /// Whether the key was ever copied elsewhere; unknown without encryption.
    key_exported: Option<bool>,
    generated: Timestamp,
    #[serde(skip)]
    zone: TimeZone,
}

impl Report for StatusResult {
    fn text(&self) -> String {
        let mut out = format!(
            "{:<20} {:>7} {:<6} {:<44} {:>4} {:>12} {:>4} {:>9} {:>8}\n",
            "DEPLOYMENT", "BACKUPS", "HEALTH", "LATEST", "AGE", "STOP LSN", "TLI", "WAL LAG", "RPO"
        );
        for line in &self.deployments {
            out.push_str(&format!(
                "{:<20} {:>7} {:<6} {:<44} {:>4} {:>12} {:>4} {:>9} {:>8}\n",
                line.deployment.as_str(),
                line.backup_count,
                if line.healthy { "✓" } else { "✗" },
                dash(line.latest_backup_id.as_ref()),
                dash(line.latest_stopped_at.map(|at| age(self.generated, at))),
                dash(line.latest_stop_lsn),
                dash(line.timeline),
                dash(line.wal_lag_bytes.map(ByteSize)),
                dash(line.rpo_seconds.map(|seconds| format!("{seconds}s"))),
            ));
        }
        for line in &self.deployments {
            if let Some(window) = line.recoverable.as_ref().filter(|window| window.from == window.to) {
                out.push_str(&format!(
                    "{0}: only the moment {1} can be recovered; for every later one: pg_hardstorage wal stream {0}, \
                     or wal push as archive_command\n",
                    line.deployment,
                    both_zones(window.from, &self.zone)
                ));
            } else if let Some(window) = &line.recoverable {
                out.push_str(&format!(
                    "{}: every moment from {} to {} can be recovered\n",
                    line.deployment,
                    both_zones(window.from, &self.zone),
                    both_zones(window.to, &self.zone)
                ));
            }
            if let (Some(end), Some(at)) = (line.durable_lsn, line.wal_arrived_at) {
                out.push_str(&format!(
                    "{}: the newest WAL, up to {end}, came {} ago\n",
                    line.deployment,
                    age(self.generated, at)
                ));
            }
            for problem in &line.problems {
                out.push_str(&format!("{}: ✗ {problem}\n", line.deployment));
            }
            let name = match self.deployments.as_slice() {
                [_] => String::new(),
                _ => format!("{}: ", line.deployment),
            };
            out.push_str(&format!("{name}{}\n", line.audit_anchor.line(self.generated)));
        }
        if self.key_exported == Some(false) {
            out.push_str(
                "! The key was never exported. Without it nothing can be restored: pg_hardstorage keyring export DIR\n",
            );
        }
        out
    }
}

/// How long a server may take to answer before its lag counts as unknown.
const ASK: std::time::Duration = std::time::Duration::from_secs(3);

/// `status [DEPLOYMENT]`.
pub(crate) async fn status(app: &App, args: StatusArgs) -> Result<StatusResult> {
    let url = app.repo_url(&args.repo, args.deployment.as_ref())?;
    let repository = app.repository(&url, Mode::Read).await?;
    let names = match args.deployment {
        Some(name) => vec![name],
        None => repository.deployments().await?,
    };
    let mut deployments = Vec::with_capacity(names.len());
    for name in names {
        let asked = tokio::time::timeout(ASK, server_position(app, &name)).await;
        deployments.push(one_status(&repository, name, asked.ok().flatten()).await?);
    }
    let key_exported = match (repository.kek_fingerprint(), app.keyring().kek()?) {
        (Some(_), Some(kek)) => Some(app.keyring().is_exported(&kek)?),
        _ => None,
    };
    Ok(StatusResult {
        repo_url: url,
        deployments,
        key_exported,
        generated: Timestamp::now(),
        zone: app.printer.zone().clone(),
    })
}

/// One deployment, and how far its server is, when that is known.
pub(super) async fn one_status(
    repository: &Repository,
    name: DeploymentName,
    server: Option<Lsn>,
) -> Result<DeploymentStatus> {
    let deployment = repository.deployment(&name).await?;
    let catalog = deployment.backups().await?;
    let lines: Vec<BackupRecord> = catalog.entries.iter().filter_map(record).collect();
    let alive: Vec<&BackupRecord> = lines.iter().filter(|line| !line.deleted).collect();
    let mut problems: Vec<String> = alive
        .iter()
        .filter_map(|line| {
            line.problem
                .as_ref()
                .map(|problem| format!("{}: {problem}", line.backup_id))
        })
        .collect();
    problems.extend(
        alive
            .iter()
            .filter(|line| line.damaged)
            .map(|line| format!("{} is damaged", line.backup_id)),
    );
    let latest = catalog
        .latest()
        .and_then(CatalogEntry::manifest)
        .map(|stored| &stored.manifest);
    let lineage = match latest {
        Some(manifest) => Some(manifest.lineage),
        None => lineages(&deployment).await?.into_iter().next_back(),
    };
    let recoverable = match lineage {
        Some(lineage) => recoverable_window(&deployment, lineage).await?,
        None => None,
    };
    let durable = recoverable.as_ref().map(|window| window.end_lsn);
    let (mut gaps, mut wal_arrived_at) = (0, None);
    if let Some(manifest) = latest {
        let archive = WalArchive::new(deployment.clone(), manifest.lineage, manifest.server.wal_segment_size);
        let timeline = recoverable
            .as_ref()
            .map_or(manifest.wal.timeline, |window| window.timeline);
        let coverage = archive.coverage(timeline, manifest.wal.start_lsn).await?;
        wal_arrived_at = archive.arrived(&coverage, manifest.wal.start_lsn).await?;
        gaps = archive
            .open_gaps(&coverage)
            .await?
            .iter()
            .filter(|gap| gap.to > manifest.wal.stop_lsn)
            .count();
        let damaged = archive.gaps().await?.damaged;
        problems.extend(damaged.iter().map(ToString::to_string));
    }
    if latest.is_none() {
        problems.push("there is no backup".to_owned());
    } else if recoverable.is_none() {
        problems.push("no backup has the WAL that makes it consistent".to_owned());
    }
    if gaps > 0 {
        problems.push(format!(
            "{gaps} gap(s) in the WAL behind the newest backup: take a new one"
        ));
    }
    let audit_anchor = AuditLook::of(&deployment).await;
    let wal_lag_bytes = server.zip(durable).map(|(end, durable)| durable.bytes_until(end));
    let now = Timestamp::now();
    Ok(DeploymentStatus {
        backup_count: alive.len(),
        healthy: problems.is_empty(),
        problems,
        latest_backup_id: latest.map(|manifest| manifest.backup_id.clone()),
        latest_stopped_at: latest.map(|manifest| manifest.times.stopped_at),
        latest_stop_lsn: latest.map(|manifest| manifest.wal.stop_lsn),
        timeline: recoverable
            .as_ref()
            .map(|window| window.timeline)
            .or(latest.map(|manifest| manifest.wal.timeline)),
        system_identifier: latest.map(|manifest| manifest.lineage.system_id),
        durable_lsn: durable,
        wal_arrived_at,
        wal_lag_bytes,
        rpo_seconds: recoverable
            .as_ref()
            .map(|window| now.duration_since(window.to).as_secs().max(0)),
        recoverable,
        gaps,
        held: lines.iter().filter(|line| line.held).count(),
        deleted: lines.iter().filter(|line| line.deleted).count(),
        audit_anchor,
        deployment: name,
    })
}

/// How far the server is, when it is configured and answers; its silence is no error of the status.
async fn server_position(app: &App, name: &DeploymentName) -> Option<Lsn> {
    let source = app
        .source_from(None, name)
        .ok()?
        .named(&format!("{}_status", slot_name(name)))
        .ok()?;
    let mut connection = source.connect().await.ok()?;
    let server = identify(&mut connection).await.ok()?;
    connection.close().await;
    Some(server.flush_lsn)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::commands::samples::{HELD, NEW, time, zone};
    use crate::printer::shown;

    pub(in crate::commands) fn protected() -> DeploymentStatus {
        DeploymentStatus {
            deployment: "db1".parse().unwrap(),
            backup_count: 2,
            healthy: true,
            problems: Vec::new(),
            latest_backup_id: Some(NEW.parse().unwrap()),
            latest_stopped_at: Some(time("2026-11-22T08:01:00Z")),
            latest_stop_lsn: Some(Lsn(0x300_0158)),
            timeline: Some(Timeline(2)),
            system_identifier: Some(SystemId(7_519_000_000_000_000_001)),
            durable_lsn: Some(Lsn(0x500_0000)),
            wal_arrived_at: Some(time("2026-11-22T08:14:52Z")),
            wal_lag_bytes: Some(4096),
            recoverable: Some(RecoverableWindow {
                from: time("2026-11-21T21:01:00Z"),
                to: time("2026-11-22T08:14:51Z"),
                end_lsn: Lsn(0x500_0000),
                timeline: Timeline(2),
                first_backup: HELD.parse().unwrap(),
            }),
            rpo_seconds: Some(9),
            gaps: 0,
            held: 1,
            deleted: 1,
            audit_anchor: AuditLook {
                events: 6,
                anchored_at: Some(time("2026-11-21T08:15:00Z")),
                anchored_event: Some(5),
                unanchored_events: 1,
                oldest_unanchored_at: Some(time("2026-11-22T08:01:00Z")),
                problem: None,
            },
        }
    }

    fn result(deployments: Vec<DeploymentStatus>, key_exported: Option<bool>) -> StatusResult {
        StatusResult {
            repo_url: "file:///srv/backup".to_owned(),
            deployments,
            key_exported,
            generated: time("2026-11-22T08:15:00Z"),
            zone: zone(),
        }
    }

    #[test]
    fn with_a_stream_that_keeps_up() {
        insta::assert_snapshot!(shown("status", &result(vec![protected()], Some(true))));
    }

    #[test]
    fn without_a_stream() {
        let mut alone = protected();
        let stopped_at = time("2026-11-22T08:01:00Z");
        (alone.backup_count, alone.held, alone.deleted) = (1, 0, 0);
        alone.audit_anchor = AuditLook {
            events: 6,
            unanchored_events: 6,
            oldest_unanchored_at: Some(stopped_at),
            ..AuditLook::default()
        };
        (alone.durable_lsn, alone.wal_lag_bytes, alone.rpo_seconds) = (Some(Lsn(0x400_0000)), None, Some(840));
        alone.recoverable = Some(RecoverableWindow {
            from: stopped_at,
            to: stopped_at,
            end_lsn: Lsn(0x400_0000),
            timeline: Timeline(2),
            first_backup: NEW.parse().unwrap(),
        });
        insta::assert_snapshot!(shown("status", &result(vec![alone], Some(false))));
    }

    #[test]
    fn what_does_not_protect_says_why() {
        let mut holes = protected();
        (holes.healthy, holes.gaps) = (false, 1);
        holes.problems = vec![
            format!("{NEW} is damaged"),
            "1 gap(s) in the WAL behind the newest backup: take a new one".to_owned(),
        ];
        let empty = DeploymentStatus {
            deployment: "billing".parse().unwrap(),
            backup_count: 0,
            healthy: false,
            problems: vec!["there is no backup".to_owned()],
            latest_backup_id: None,
            latest_stopped_at: None,
            latest_stop_lsn: None,
            timeline: None,
            system_identifier: None,
            durable_lsn: None,
            wal_arrived_at: None,
            wal_lag_bytes: None,
            recoverable: None,
            rpo_seconds: None,
            gaps: 0,
            held: 0,
            deleted: 0,
            audit_anchor: AuditLook::default(),
        };
        insta::assert_snapshot!(result(vec![empty, holes], None).text());
    }
}
