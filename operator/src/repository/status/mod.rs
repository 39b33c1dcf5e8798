//! What a Repository's status says of what was seen. Pure.

mod message;

use hardstorage_crds::condition::repository::{KEY_AVAILABLE, REACHABLE, RECOVERY_KEY_EXPORTED, WRITE_SAFE};
use hardstorage_crds::condition::{READY, STALLED};
use hardstorage_crds::{
    AccessMode, Bytes, Check as LastCheck, ConditionalWrites, Repository, RepositoryName, RepositoryStatus,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use super::access::{Refusal, kek};
use super::outcome::{Check, Init, Probe, Runs, Sync, generation};
use super::share::Sharing;
use super::verdict::Verdict;
use crate::condition::{Conditions, Is, reason_of};
use crate::report::ServedCatalog;
use crate::window;

/// The most names that a status holds.
const NAMES: usize = 100;
/// Conditions that are kept as they were while nothing new is known of them.
const KEPT: [&str; 4] = [REACHABLE, WRITE_SAFE, KEY_AVAILABLE, RECOVERY_KEY_EXPORTED];

/// What was seen.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The object.
    pub repository: &'a Repository,
    /// What was judged of its URL.
    pub verdict: &'a Verdict,
    /// Looks at it.
    pub probe: &'a Runs<Probe>,
    /// Its creation.
    pub init: &'a Runs<Init>,
    /// Readings of its catalogue.
    pub sync: &'a Runs<Sync>,
    /// Its checks.
    pub check: &'a Runs<Check>,
    /// A catalogue that was read now, and is shown as objects already.
    pub catalog: Option<&'a ServedCatalog>,
    /// What lies in other namespaces.
    pub sharing: &'a Sharing,
    /// Why the schedule of its checks cannot be followed.
    pub schedule: Option<&'a str>,
    /// The time.
    pub now: Timestamp,
}

/// The status, and its conditions before they are taken apart from what was there.
pub fn status(seen: &Seen<'_>) -> (RepositoryStatus, Conditions) {
    let before = seen.repository.status.clone().unwrap_or_default();
    let mut after = before.clone();
    // A change is observed when it was looked at with it.
    let looked = seen.probe.last.as_ref().and_then(|last| generation(&last.job));
    after.observed_generation = looked.or(seen.repository.metadata.generation);
    facts(seen, &mut after);
    let mut conditions = Conditions::new(&before.conditions, after.observed_generation, seen.now);
    ready(seen, &before, &after, &mut conditions);
    reachable(seen, &mut conditions);
    write_safe(seen, &after, &mut conditions);
    key_available(seen, &after, &mut conditions);
    key_exported(seen, &after, &mut conditions);
    seen.sharing.say(&mut conditions);
    for type_ in KEPT {
        conditions.keep(type_);
    }
    after.conditions = conditions.clone().finish();
    (after, conditions)
}

/// The status of one that cannot be looked at. What was known stays, and nobody that uses it is stopped.
pub fn unseen(repository: &Repository, refusal: &Refusal, now: Timestamp) -> (RepositoryStatus, Conditions) {
    let before = repository.status.clone().unwrap_or_default();
    let mut conditions = Conditions::new(&before.conditions, before.observed_generation, now);
    conditions.progressing(&refusal.reason, refusal.text());
    before.conditions.iter().for_each(|old| conditions.keep(&old.type_));
    let status = RepositoryStatus {
        conditions: conditions.clone().finish(),
        ..before
    };
    (status, conditions)
}

fn facts(seen: &Seen<'_>, after: &mut RepositoryStatus) {
    let probed = seen.probe.last.as_ref().and_then(|run| run.outcome.as_ref().ok());
    let created = seen.init.last.as_ref().and_then(|run| run.outcome.as_ref().ok());
    if let (Verdict::Good, Some(probed)) = (seen.verdict, probed) {
        after.repository_id.clone_from(&probed.id);
        after.kek_fingerprint.clone_from(&probed.kek_fingerprint);
    }
    let proven = probed
        .and_then(|probed| probed.create_only_proven)
        .or(created.and_then(|created| created.create_only_proven));
    match proven {
        Some(true) => after.conditional_writes = Some(ConditionalWrites::Native),
        Some(false) => after.conditional_writes = Some(ConditionalWrites::Unsupported),
        None => {
            after.conditional_writes.get_or_insert(ConditionalWrites::Unknown);
        }
    }
    if let Some(catalog) = seen.catalog {
        catalogued(seen, catalog, after);
    }
    if let Some(check) = &seen.check.last {
        let result = match &check.outcome {
            Ok(verdict) if verdict.ok => "Completed".to_owned(),
            Ok(verdict) => problems(verdict),
            Err(failure) => match after.last_check.as_ref().and_then(found) {
                // What the one before it found is not refuted.
                Some(before) => format!("{before}{THEN}Failed: {}", failure.code),
                None => format!("Failed: {}", failure.code),
            },
        };
        after.last_check = Some(LastCheck {
            time: Time(check.ended),
            result,
        });
    }
}

fn catalogued(seen: &Seen<'_>, catalog: &ServedCatalog, after: &mut RepositoryStatus) {
    let result = seen.sync.last.as_ref().and_then(|run| run.outcome.as_ref().ok());
    let mut names: std::collections::BTreeMap<&str, RepositoryName> = std::collections::BTreeMap::new();
    let mut add = |name| {
        names.entry(name).or_insert_with(|| RepositoryName {
            name: name.to_owned(),
            backups: 0,
            recoverable_from: None,
            recoverable_to: None,
        });
    };
    catalog
        .backups
        .iter()
        .for_each(|record| add(record.backup_id.deployment()));
    result
        .iter()
        .flat_map(|sync| sync.deployments.keys())
        .for_each(|name| add(name));
    for record in catalog.backups.iter().filter(|record| !record.deleted) {
        if let Some(name) = names.get_mut(record.backup_id.deployment()) {
            name.backups += 1;
        }
    }
    for (name, synced) in result.iter().flat_map(|sync| &sync.deployments) {
        if let (Some(entry), Some(window)) = (names.get_mut(name.as_str()), &synced.recoverable) {
            (entry.recoverable_from, entry.recoverable_to) = window::whole(Some(window.from), Some(window.to));
        }
    }
    after.backups = Some(names.values().map(|name| name.backups).sum());
    after.names = names.into_values().take(NAMES).collect();
    if let Some(sync) = result {
        after.size = sync.total_bytes.map(Bytes::of);
        after.reclaimable = sync.reclaimable_at_most.map(Bytes::of);
    }
    // By the clock that made the Job, which the next one is compared with: two clocks need not agree.
    after.last_sync_time = seen.sync.last.as_ref().map(|run| Time(run.made));
}

fn problems(check: &Check) -> String {
    let first = check.problems.first();
    let more = first.map_or_else(String::new, |first| format!(": {} in {}", first.code, first.backup_id));
    format!("{} {PROBLEMS}{more}", check.problems.len())
}

/// What stands in the result of a check that found something.
const PROBLEMS: &str = "problem(s)";
/// What follows it when another check did not get to its end.
const THEN: &str = "; then ";

/// What was found by the last check that got to its end; nothing when all is there.
fn found(check: &LastCheck) -> Option<String> {
    let (result, _) = check.result.split_once(THEN).unwrap_or((&check.result, ""));
    result.contains(PROBLEMS).then(|| result.to_owned())
}

fn ready(seen: &Seen<'_>, before: &RepositoryStatus, after: &RepositoryStatus, conditions: &mut Conditions) {
    let verdict = seen.verdict;
    let message = message::of(seen, before);
    let state = seen.probe.running.as_ref().or(seen.init.running.as_ref());
    match verdict {
        // Its Jobs were removed by somebody; what was known still holds.
        Verdict::Looking if before.repository_id.is_some() => {
            conditions.keep(READY);
            conditions.keep(STALLED);
        }
        Verdict::Looking | Verdict::MayCreate | Verdict::Creating => {
            let how = state.map_or_else(String::new, |(_, state)| format!(" ({state})"));
            conditions.progressing(verdict.reason(), format!("{message}{how}"));
        }
        Verdict::Good => {
            let unended = seen.check.last.as_ref().and_then(|run| run.outcome.as_ref().err());
            let sync = seen.sync.last.as_ref().and_then(|run| run.outcome.as_ref().err());
            if let Some(found) = after.last_check.as_ref().and_then(found) {
                conditions.progressing("CheckFailed", format!("the last check found {found}"));
            } else if let Some(problem) = seen.schedule {
                conditions.progressing("MaintenanceInvalid", format!("maintenance: {problem}"));
            } else if let Some(failure) = sync {
                conditions.progressing("SyncFailed", format!("its catalogue was not read: {}", failure.text()));
            } else {
                let backups = after
                    .backups
                    .map_or_else(String::new, |count| format!("{count} backup(s)"));
                let unended =
                    unended.map(|failure| format!("the last check did not get to its end: {}", failure.text()));
                let said: Vec<String> = Some(backups)
                    .filter(|text| !text.is_empty())
                    .into_iter()
                    .chain(unended)
                    .collect();
                conditions.ready("Ready", said.join("; "));
            }
        }
        stalled if stalled.stalls() => conditions.stalled(verdict.reason(), message),
        _ => conditions.progressing(verdict.reason(), message),
    }
}

fn reachable(seen: &Seen<'_>, conditions: &mut Conditions) {
    match seen.verdict {
        Verdict::ClaimMissing(what) => conditions.set(REACHABLE, Is::False, "ClaimMissing", what.clone()),
        Verdict::Unreachable(failure) => {
            conditions.set(REACHABLE, Is::False, &reason_of(&failure.code), failure.text());
        }
        Verdict::Looking => {
            conditions.keep(REACHABLE);
            if conditions.get(REACHABLE).is_none() {
                conditions.set(REACHABLE, Is::Unknown, "Probing", "");
            }
        }
        _ => conditions.set(REACHABLE, Is::True, "Answers", ""),
    }
}

fn write_safe(seen: &Seen<'_>, after: &RepositoryStatus, conditions: &mut Conditions) {
    if seen.repository.spec.access_mode != AccessMode::ReadWrite {
        conditions.set(WRITE_SAFE, Is::True, "ReadOnly", "nothing is written here");
        return;
    }
    let probed = seen.probe.last.as_ref().and_then(|run| run.outcome.as_ref().ok());
    let problem = probed.and_then(|probed| probed.write_problem.as_ref());
    let words = |begin: &str| match problem {
        Some(problem) => format!("{begin}: {}; {}", problem.message, problem.hint),
        None => begin.to_owned(),
    };
    let tried = probed.and_then(|probed| probed.create_only_proven);
    let (is, reason, message) = match (&after.conditional_writes, problem) {
        // What was proven once is no word against a refusal now.
        (_, Some(problem)) if tried.is_none() && refuses(&problem.code) => {
            (Is::False, "WritesRefused", words("nothing can be written there"))
        }
        (Some(ConditionalWrites::Native), _) => (Is::True, "ConditionalWrites", String::new()),
        (Some(ConditionalWrites::Unsupported), _) => (
            Is::False,
            "NoConditionalWrites",
            "the store lets two writers create the same object; use one that keeps If-None-Match".to_owned(),
        ),
        (_, Some(_)) => (
            Is::Unknown,
            "TrialFailed",
            words("whether two writers are safe could not be tried"),
        ),
        (_, None) => (
            Is::Unknown,
            "NotTried",
            "no look has tried yet whether two writers are safe".to_owned(),
        ),
    };
    conditions.set(WRITE_SAFE, is, reason, message);
}

/// Whether a store says by this that it takes no writes from us.
fn refuses(code: &str) -> bool {
    matches!(code, "auth.store_denied" | "conflict.store_read_only")
}

fn key_available(seen: &Seen<'_>, after: &RepositoryStatus, conditions: &mut Conditions) {
    if seen.repository.spec.encryption.none.is_some() {
        conditions.set(KEY_AVAILABLE, Is::True, "NotEncrypted", "");
        return;
    }
    match seen.verdict {
        Verdict::Good => {
            let fingerprint = after.kek_fingerprint.clone().unwrap_or_default();
            conditions.set(KEY_AVAILABLE, Is::True, "Matches", format!("fingerprint {fingerprint}"));
        }
        Verdict::KeyMissing(_) | Verdict::KeyMismatch { .. } => {
            let message = message::of(seen, &seen.repository.status.clone().unwrap_or_default());
            conditions.set(KEY_AVAILABLE, Is::False, seen.verdict.reason(), message);
        }
        _ => {
            conditions.keep(KEY_AVAILABLE);
            if conditions.get(KEY_AVAILABLE).is_none() {
                conditions.set(KEY_AVAILABLE, Is::Unknown, seen.verdict.reason(), "");
            }
        }
    }
}

fn key_exported(seen: &Seen<'_>, after: &RepositoryStatus, conditions: &mut Conditions) {
    let mut say = |is, reason, message: String| conditions.set(RECOVERY_KEY_EXPORTED, is, reason, message);
    let encryption = &seen.repository.spec.encryption;
    if encryption.none.is_some() {
        return say(Is::True, "NotEncrypted", String::new());
    }
    let managed = match (&encryption.secret, &encryption.managed) {
        (Some(_), _) => {
            return say(
                Is::True,
                "ManagedByUser",
                "the key is your own, and so are its copies".to_owned(),
            );
        }
        (None, managed) => managed.clone().unwrap_or_default(),
    };
    let Some(fingerprint) = &after.kek_fingerprint else {
        return say(Is::Unknown, "NoKeyYet", String::new());
    };
    let exported = managed.exported_fingerprint.filter(|exported| !exported.is_empty());
    if exported.as_ref() == Some(fingerprint) {
        return say(Is::True, "Exported", String::new());
    }
    let key = kek(&seen.repository.spec, &seen.repository.name_any());
    let secret = key.map(|key| key.secret).unwrap_or_default();
    let namespace = seen.repository.namespace().unwrap_or_default();
    let (reason, begin) = match exported {
        Some(other) => (
            "OtherKeyExported",
            format!("exportedFingerprint is {other}, which is another key; "),
        ),
        None => ("NotExported", String::new()),
    };
    say(
        Is::False,
        reason,
        format!(
            "{begin}without this key no backup can be read: copy it out of this cluster with `(umask 077 && kubectl -n \
             {namespace} get secret {secret} -o jsonpath='{{.data.kek}}' | base64 -d > {secret}.key)`, then set \
             spec.encryption.managed.exportedFingerprint to {fingerprint}"
        ),
    );
}

#[cfg(test)]
mod tests;
