//! The status of a Deployment, from what was found out. Pure.

mod conditions;
mod figures;
mod streaming;

use hardstorage_crds::{
    DeploymentStatus, LastBackup, Lineage, ProtectedDeployment, Recoverable, SourceStatus, StreamStatus,
};
use hardstorage_report::{BackupRecord, RunReport, StreamPhase, StreamStatus as Streamed};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::collide::Collision;
use super::identity;
use super::lineage::Systems;
use super::source::{SlotWord, SourceFacts};
use super::upgrade::Turn;
use crate::condition::Conditions;
use crate::job::PodFacts;
use crate::names;
use crate::repository::Refusal;
use crate::window;

pub use figures::settle;

/// What the stream's pod has told.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// It answered just now.
    Now(Box<RunReport>),
    /// It did not answer; the last time that it did, if ever, and since when it has been asked.
    Silent {
        /// Seconds since it answered, or since it was first asked.
        seconds: i64,
    },
}

/// What was found out.
#[derive(Debug, Clone)]
pub struct Findings<'a> {
    /// The object.
    pub deployment: &'a ProtectedDeployment,
    /// What an older one has.
    pub collision: Option<&'a Collision>,
    /// Why the Repository cannot be used, or a child cannot be made, when it cannot.
    pub refusal: Option<&'a Refusal>,
    /// The source.
    pub source: &'a SourceFacts,
    /// Whether it is the same cluster.
    pub systems: &'a Systems,
    /// What was protected, from now on.
    pub lineages: &'a [Lineage],
    /// Whether a stream was made.
    pub has_child: bool,
    /// Its pod.
    pub pod: Option<&'a PodFacts>,
    /// What the pod told.
    pub heard: &'a Heard,
    /// Whether the slot outlives a failover, where that is Patroni's matter.
    pub slot: Option<&'a SlotWord>,
    /// Whether the engine's image is on its way.
    pub turn: &'a Turn,
    /// The newest backup of the lineage that is streamed, when the catalogue is known.
    pub newest: Option<&'a BackupRecord>,
    /// The time.
    pub now: Timestamp,
}

impl Findings<'_> {
    /// What the stream says of itself, when it was heard.
    fn streamed(&self) -> Option<&Streamed> {
        match self.heard {
            Heard::Now(report) => report.stream.as_ref(),
            Heard::Silent { .. } => None,
        }
    }

    fn paused(&self) -> bool {
        self.deployment.spec.stream.as_ref().is_some_and(|stream| stream.paused)
    }
}

/// The status as it is, figures of this moment included; [`settle`] decides what is worth a write. The conditions come
/// along for events.
pub fn status(findings: &Findings<'_>) -> (DeploymentStatus, Conditions) {
    let before = findings.deployment.status.clone().unwrap_or_default();
    let generation = findings.deployment.metadata.generation;
    let mut conditions = Conditions::new(&before.conditions, generation, findings.now);
    conditions::say(findings, &before, &mut conditions);
    let phase = conditions::phase(findings, &before, &conditions);
    let lineage = findings.lineages.iter().find(|lineage| lineage.current);
    let status = DeploymentStatus {
        observed_generation: generation,
        conditions: conditions.clone().finish(),
        phase: Some(phase),
        source: Some(source(findings, before.source.as_ref(), lineage)),
        name_in_repository: Some(
            lineage.map_or_else(|| identity::name(findings.deployment), |lineage| lineage.name.clone()),
        ),
        lineages: findings.lineages.to_vec(),
        stream: stream(findings, before.stream.as_ref()),
        recoverable: recoverable(findings).or(before.recoverable),
        last_backup: last_backup(findings.newest).or(before.last_backup),
        last_drill: before.last_drill,
        engine_version: match findings.heard {
            Heard::Now(report) => Some(report.version.clone()),
            Heard::Silent { .. } => before.engine_version,
        },
        later: before.later,
    };
    (status, conditions)
}

/// Version, UID and system identifier belong together: what is compared with the next cluster is what the one had that was
/// agreed to, and a version that is ahead of it, as in the middle of an upgrade, would hide that it was one.
fn source(findings: &Findings<'_>, before: Option<&SourceStatus>, lineage: Option<&Lineage>) -> SourceStatus {
    let facts = findings.source;
    let known = lineage.map(|lineage| lineage.system_identifier.as_str());
    // One that is not connected tells of the cluster of before, whatever has become of that since.
    let streamed = findings
        .streamed()
        .filter(|stream| matches!(stream.phase, StreamPhase::Streaming | StreamPhase::CatchingUp))
        .and_then(|stream| stream.system_id)
        .map(|id| id.to_string());
    let seen = facts.system_identifier.clone().or(streamed);
    let agreed = seen.is_some() && seen.as_deref() == known;
    let kept = before.cloned().unwrap_or_default();
    let version = facts
        .version
        .clone()
        .or_else(|| findings.newest.and_then(|record| record.pg_version.clone()));
    SourceStatus {
        type_: Some(facts.kind.as_str().to_owned()),
        primary: facts.primary.clone().or(kept.primary),
        mode: Some(facts.mode.clone()),
        postgres_version: if agreed {
            version.or(kept.postgres_version)
        } else {
            kept.postgres_version
        },
        system_identifier: if agreed { seen } else { kept.system_identifier },
        cluster_uid: if agreed {
            facts.cluster_uid.clone()
        } else {
            kept.cluster_uid
        },
    }
}

fn stream(findings: &Findings<'_>, before: Option<&StreamStatus>) -> Option<StreamStatus> {
    let Some(streamed) = findings.streamed() else {
        return before.cloned();
    };
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    Some(StreamStatus {
        pod: findings.pod.map(|pod| pod.name.clone()),
        slot: streamed.slot.clone(),
        timeline: streamed.timeline.map(|timeline| i64::from(timeline.0)),
        archived_lsn: streamed.durable_lsn.map(|lsn| lsn.to_string()),
        lag_bytes: streamed.lag_bytes.map(number),
        lag_seconds: streamed.lag_seconds.map(|seconds| seconds as i64),
        observed_time: Some(Time(findings.now)),
    })
}

fn recoverable(findings: &Findings<'_>) -> Option<Recoverable> {
    let streamed = findings.streamed()?;
    // Until there is a backup there is nothing to recover.
    streamed.recoverable_from?;
    let (from, to) = window::whole(streamed.recoverable_from, streamed.recoverable_to);
    Some(Recoverable {
        from,
        to,
        gaps: Some(i64::try_from(streamed.gaps).unwrap_or(i64::MAX)),
    })
}

fn last_backup(newest: Option<&BackupRecord>) -> Option<LastBackup> {
    let record = newest?;
    Some(LastBackup {
        name: Some(names::mirror(record.backup_id.as_str())),
        id: Some(record.backup_id.as_str().to_owned()),
        time: record.stopped_at.map(Time),
        result: Some("Completed".to_owned()),
    })
}

#[cfg(test)]
mod changes_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
