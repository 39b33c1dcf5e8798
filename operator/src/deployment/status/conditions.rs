//! The conditions, and the phase that sums them up for people.

use hardstorage_crds::condition::deployment::{
    ARCHIVE_CONTINUOUS, SLOT_HEALTHY, SOURCE_READY, STREAMING, UPGRADE_HALTED,
};
use hardstorage_crds::condition::{READY, STALLED};
use hardstorage_crds::{DeploymentStatus, Phase};
use hardstorage_report::StreamPhase;

use super::streaming::{Word, slot, streaming};
use super::{Findings, Heard};
use crate::condition::{Conditions, Is};
use crate::deployment::lineage::Systems;
use crate::deployment::source::{State, reason};
use crate::deployment::upgrade::Turn;

/// Says all of them.
pub fn say(findings: &Findings<'_>, before: &DeploymentStatus, conditions: &mut Conditions) {
    let flows = streaming(findings, &before.conditions);
    let healthy = slot(findings);
    let source = source_ready(findings, before, &flows);
    ready(findings, &flows, healthy.as_ref(), &source, conditions);
    put(conditions, STREAMING, &flows);
    archive(findings, before, conditions);
    match &healthy {
        Some(word) => put(conditions, SLOT_HEALTHY, word),
        None => conditions.keep(SLOT_HEALTHY),
    }
    put(conditions, SOURCE_READY, &source);
    match findings.turn {
        Turn::Halted(message) => conditions.set(UPGRADE_HALTED, Is::True, "StreamLost", message),
        Turn::Wait(message) => conditions.set(UPGRADE_HALTED, Is::False, "Waiting", message),
        Turn::Go => conditions.set(UPGRADE_HALTED, Is::False, "UpToDate", ""),
    }
}

fn put(conditions: &mut Conditions, type_: &str, word: &Word) {
    conditions.set(type_, word.is, &word.reason, word.message.clone());
}

fn source_ready(findings: &Findings<'_>, before: &DeploymentStatus, flows: &Word) -> Word {
    match &findings.source.state {
        State::Hibernated => Word::new(Is::True, "Hibernated", "it sleeps"),
        State::Progressing { reason, message } => Word::new(Is::False, *reason, message.clone()),
        // What is applied in one go may come in any order: before the first stream it is waited for.
        State::Missing { reason, message } => Word {
            needs_a_person: before.stream.is_some() || !may_still_come(reason),
            ..Word::new(Is::False, *reason, message.clone())
        },
        // What the server says against being protected, it says to the stream.
        State::Ready if flows.is == Is::False && flows.needs_a_person && is_the_servers(&flows.reason) => flows.clone(),
        State::Ready => Word::new(Is::True, "Found", ""),
    }
}

fn may_still_come(word: &str) -> bool {
    word == reason::CLUSTER_MISSING || word == reason::CLOUD_NATIVE_PG_MISSING
}

fn is_the_servers(reason: &str) -> bool {
    ["Preflight", "AuthPostgres", "AuthPg", "AuthRole", "AuthTls"]
        .iter()
        .any(|begin| reason.starts_with(begin))
}

/// A hole stays one until a backup was taken after it: from there on nothing is missing.
fn archive(findings: &Findings<'_>, before: &DeploymentStatus, conditions: &mut Conditions) {
    let Some(streamed) = findings.streamed() else {
        conditions.keep(ARCHIVE_CONTINUOUS);
        return;
    };
    let hole = streamed.last_error.as_ref().filter(|error| {
        matches!(
            error.code.as_str(),
            "replication.wal_removed" | "verify.wal_gap" | "replication.not_contiguous"
        )
    });
    if let Some(error) = hole {
        let message = format!("{}; {}", error.message, error.hint);
        conditions.set(ARCHIVE_CONTINUOUS, Is::False, "WalMissing", message);
        return;
    }
    let old = before
        .conditions
        .iter()
        .find(|condition| condition.type_ == ARCHIVE_CONTINUOUS && condition.status == "False");
    let since = old.map(|old| old.last_transition_time.0);
    let closed = since.is_none_or(|since| {
        let began = findings.newest.and_then(|record| record.started_at);
        began.is_some_and(|began| began > since)
    });
    let gap_since_start = streamed.gaps > 0 && old.is_none() && !backup_after_start(findings);
    if gap_since_start || !closed {
        let message = "WAL is missing in the repository; take a backup: recovery goes on from there".to_owned();
        conditions.set(ARCHIVE_CONTINUOUS, Is::False, "WalMissing", message);
    } else if streamed.durable_lsn.is_none() {
        // It has archived nothing yet, and so has nothing to say of it.
        conditions.keep(ARCHIVE_CONTINUOUS);
    } else {
        conditions.set(ARCHIVE_CONTINUOUS, Is::True, "Continuous", "");
    }
}

fn backup_after_start(findings: &Findings<'_>) -> bool {
    let started = findings.streamed().map(|stream| stream.started_at);
    let began = findings.newest.and_then(|record| record.started_at);
    began.zip(started).is_some_and(|(began, started)| began > started)
}

/// Whether everything is as the spec says; the first hindrance is the reason.
fn ready(findings: &Findings<'_>, flows: &Word, slot: Option<&Word>, source: &Word, conditions: &mut Conditions) {
    if let Some(collision) = findings.collision {
        return conditions.stalled(collision.reason, collision.message.clone());
    }
    if let Some(refusal) = findings.refusal {
        if refusal.waits {
            conditions.progressing(&refusal.reason, refusal.text());
        } else {
            conditions.stalled(&refusal.reason, refusal.text());
        }
        return;
    }
    if let Systems::Refused(message) = findings.systems {
        return conditions.stalled("NewSystem", message.clone());
    }
    if findings.paused() {
        return conditions.ready("Paused", flows.message.clone());
    }
    if findings.source.state == State::Hibernated {
        return conditions.ready("SourceHibernated", flows.message.clone());
    }
    if source.is == Is::False && (source.needs_a_person || flows.is != Is::True) {
        return word(source, conditions);
    }
    if flows.is != Is::True {
        return word(flows, conditions);
    }
    match slot {
        Some(slot) if slot.is != Is::True => word(slot, conditions),
        _ => conditions.ready("Streaming", ""),
    }
}

fn word(word: &Word, conditions: &mut Conditions) {
    if word.needs_a_person {
        conditions.stalled(&word.reason, word.message.clone());
    } else {
        conditions.progressing(&word.reason, word.message.clone());
    }
}

/// In a word, for people.
pub fn phase(findings: &Findings<'_>, before: &DeploymentStatus, conditions: &Conditions) -> Phase {
    let holds = |type_: &str| {
        conditions
            .get(type_)
            .is_some_and(|condition| condition.status == "True")
    };
    let denied = |type_: &str| {
        conditions
            .get(type_)
            .is_some_and(|condition| condition.status == "False")
    };
    if findings.paused() {
        return Phase::Paused;
    }
    if findings.source.state == State::Hibernated {
        return Phase::Hibernated;
    }
    if holds(STREAMING) {
        let wrong = denied(ARCHIVE_CONTINUOUS) || denied(SLOT_HEALTHY) || holds(STALLED) || denied(READY);
        let behind = matches!(findings.heard, Heard::Now(report)
            if report.stream.as_ref().is_some_and(|stream| stream.phase == StreamPhase::CatchingUp));
        return match (wrong, behind) {
            (true, _) => Phase::Degraded,
            (false, true) => Phase::CatchingUp,
            (false, false) => Phase::Streaming,
        };
    }
    let has_streamed = before.stream.is_some() || findings.streamed().is_some_and(|stream| stream.heard_at.is_some());
    if holds(STALLED) || (has_streamed && findings.has_child) {
        Phase::Failed
    } else {
        Phase::Pending
    }
}
