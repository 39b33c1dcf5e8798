//! Jobs that look, create and read.

use std::collections::BTreeMap;

use hardstorage_crds::AccessMode;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::{Resource as _, ResourceExt as _};

use super::{Ground, labels, pod};
use crate::job::{JobPlan, build};
use crate::names::{self, Role, annotation};
use crate::repository::decide::Step;

/// How long a look may take in all, the wait for a node included.
const LOOK_SECONDS: i64 = 15 * 60;
/// How long reading a catalogue may take: it reads every manifest.
const SYNC_SECONDS: i64 = 2 * 3600;
/// How long a pod answers after its result, until it was heard.
const LINGER: u32 = 30;
/// The same for a catalogue, of which there is nothing but what the pod serves.
const LINGER_CATALOG: u32 = 300;

/// The Job of a step; none for a step that needs none. It has one try: the wait between two is ours, so that the
/// condition tells the first failure.
pub fn job(ground: &Ground<'_>, step: &Step, now: Timestamp) -> Option<Job> {
    let repository = ground.repository;
    let in_clear = repository.spec.encryption.none.is_some();
    let init: &[&str] = if in_clear {
        &["repo", "init", "--no-encryption"]
    } else {
        &["repo", "init"]
    };
    // Where nothing is to be written not even a trial is.
    let look: &[&str] = if repository.spec.access_mode == AccessMode::ReadWrite {
        &["repo", "probe", "--prove-writes"]
    } else {
        &["repo", "probe"]
    };
    let (role, command, seconds, linger) = match step {
        Step::Probe { .. } => (Role::Probe, look, LOOK_SECONDS, LINGER),
        Step::Create { .. } => (Role::Init, init, LOOK_SECONDS, LINGER),
        Step::Sync { .. } => (Role::Sync, ["repo", "sync"].as_slice(), SYNC_SECONDS, LINGER_CATALOG),
        Step::Wait(_) => return None,
    };
    let notes = notes(repository.metadata.generation.unwrap_or_default(), step);
    // The minute lets a Job that somebody removed be made once more; within it a second try finds the first one's.
    let seed = format!(
        "{}/{notes:?}/{}",
        repository.uid().unwrap_or_default(),
        now.as_second().div_euclid(60)
    );
    let plan = JobPlan {
        namespace: repository.namespace().unwrap_or_default(),
        name: names::job(&repository.name_any(), role, &seed),
        labels: labels(repository, role),
        owner: repository.controller_owner_ref(&()),
        backoff_limit: 0,
        active_deadline: seconds,
        suspend: false,
        pod: pod(ground, role, command, linger).build(),
    };
    let mut job = build(plan);
    job.metadata.annotations = Some(notes);
    Some(job)
}

fn notes(generation: i64, step: &Step) -> BTreeMap<String, String> {
    let (attempt, after, asked, news) = match step {
        Step::Probe { attempt, after } => (*attempt, after.clone(), None, None),
        Step::Create { attempt, after } => (*attempt, Some(after.clone()), None, None),
        Step::Sync { attempt, asked, news } => (*attempt, None, asked.clone(), Some(news.clone())),
        Step::Wait(_) => (0, None, None, None),
    };
    let notes = [
        (annotation::GENERATION, Some(generation.to_string())),
        (annotation::ATTEMPT, Some(attempt.to_string())),
        (annotation::AFTER, after),
        (annotation::SYNC_NOW, asked),
        (annotation::NEWS, news),
    ];
    notes
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}
