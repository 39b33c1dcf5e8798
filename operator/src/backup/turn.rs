//! Turns: how many backups of one repository run at the same time. Jobs are made suspended and let go in the order in
//! which they were made.
//!
//! Only those that ask for their turn stand before others. One whose Deployment is gone, whose server sleeps, or in whose
//! namespace the operator lost a right asks for none: it keeps waiting, and nobody waits behind it. Who asked is not kept
//! over a restart: then the first to ask goes first.

use std::collections::BTreeMap;

use hardstorage_crds::Repository;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::sync::Mutex;

use crate::context::Context;
use crate::controllers::api;
use crate::error::{Error, Result};
use crate::job;
use crate::names::{Role, annotation, label};

/// One that has not asked for so long stands before nobody. It is some times as long as what lies between two looks.
const ASKS: SignedDuration = SignedDuration::from_mins(2);

/// When the Jobs that wait asked last, by UID. It is held while one takes its turn, so that two do not both see the last
/// free one.
static ASKED: Mutex<BTreeMap<String, Timestamp>> = Mutex::const_new(BTreeMap::new());

/// Lets a Job go when it is its turn; whether it was let go.
pub async fn take(context: &Context, repository: &Repository, job: &Job) -> Result<bool> {
    let limit = repository
        .spec
        .limits
        .clone()
        .map_or(0, |limits| limits.concurrent_backups);
    let limit = usize::try_from(limit).unwrap_or_default();
    let mut asked = ASKED.lock().await;
    let (now, uid) = (context.now(), job.metadata.uid.clone().unwrap_or_default());
    asked.retain(|_, at| now.duration_since(*at).abs() < ASKS);
    asked.insert(uid.clone(), now);
    if limit > 0 {
        let selector = format!(
            "{}={},{}={},{}={}",
            label::ROLE,
            Role::Backup.as_str(),
            label::REPOSITORY,
            repository.name_any(),
            label::REPOSITORY_NAMESPACE,
            repository.namespace().unwrap_or_default(),
        );
        let jobs = api::<Job>(context)
            .list(&ListParams::default().labels(&selector))
            .await?;
        let asks = |job: &Job| job.metadata.uid.as_ref().is_some_and(|uid| asked.contains_key(uid));
        if !may_go(&jobs.items, job, limit, asks) {
            return Ok(false);
        }
    }
    release(context, job).await?;
    asked.remove(&uid);
    Ok(true)
}

async fn release(context: &Context, job: &Job) -> Result<()> {
    let namespace = job.namespace().ok_or(Error::Incomplete("namespace"))?;
    let jobs: Api<Job> = Api::namespaced(context.client.clone(), &namespace);
    let body = json!({"metadata": {"uid": job.uid()}, "spec": {"suspend": false}});
    jobs.patch(&job.name_any(), &PatchParams::default(), &Patch::Merge(&body))
        .await?;
    Ok(())
}

/// Whether it is the turn of one among all Jobs of a repository: those that run come first, then the older of those that
/// ask.
fn may_go(all: &[Job], one: &Job, limit: usize, asks: impl Fn(&Job) -> bool) -> bool {
    let waits = |job: &&Job| is_held_back(job) && !is_over(job) && asks(job);
    let mut waiting: Vec<_> = all.iter().filter(waits).collect();
    let running = all.iter().filter(|job| !is_held_back(job) && !is_over(job)).count();
    waiting.sort_by_key(|job| {
        (
            job.metadata.creation_timestamp.as_ref().map(|time| time.0),
            job.namespace(),
            job.name_any(),
        )
    });
    let ahead = waiting.iter().position(|job| job.metadata.uid == one.metadata.uid);
    ahead.is_some_and(|ahead| running + ahead < limit)
}

/// Whether a Job waits to be let go.
pub fn is_held_back(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true)
}

/// Whether a Job takes no turn any more: it has ended, or its result is known.
pub fn is_over(job: &Job) -> bool {
    job::ending(job).is_some()
        || job.annotations().contains_key(annotation::STORED)
        || job.metadata.deletion_timestamp.is_some()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "test code")]
    use super::*;
    use serde_json::Value;

    fn job(uid: &str, second: u32, suspend: bool, status: Value) -> Job {
        serde_json::from_value(json!({"apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": uid, "namespace": "team", "uid": uid,
                "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")},
            "spec": {"suspend": suspend, "template": {}}, "status": status}))
        .unwrap()
    }

    fn goes(all: &[Job], limit: usize) -> Vec<String> {
        goes_of(all, limit, |_| true)
    }

    fn goes_of(all: &[Job], limit: usize, asks: impl Fn(&Job) -> bool) -> Vec<String> {
        let held_back = all.iter().filter(|job| is_held_back(job) && asks(job));
        held_back
            .filter(|job| may_go(all, job, limit, &asks))
            .map(kube::ResourceExt::name_any)
            .collect()
    }

    #[test]
    fn one_that_does_not_ask_holds_up_nobody() {
        let all = [job("b", 5, true, Value::Null), job("a", 1, true, Value::Null)];
        assert_eq!(goes(&all, 1), ["a"]);
        assert_eq!(goes_of(&all, 1, |job| job.name_any() != "a"), ["b"]);
    }

    #[test]
    fn the_older_go_first_and_never_more_than_the_limit() {
        let ended = json!({"conditions": [{"type": "Complete", "status": "True"}]});
        let mut all = vec![
            job("d", 9, true, Value::Null),
            job("c", 5, true, Value::Null),
            job("b", 5, true, Value::Null),
            job("a", 1, false, Value::Null),
        ];
        assert!(goes(&all, 1).is_empty());
        assert_eq!(goes(&all, 2), ["b"]);
        assert_eq!(goes(&all, 3), ["c", "b"]);
        all[3] = job("a", 1, false, ended);
        assert_eq!(goes(&all, 1), ["b"]);
        // One that is already let go goes before an older one that waits.
        all[0] = job("d", 9, false, Value::Null);
        assert!(goes(&all, 1).is_empty());
        // A result that is known takes no turn, whatever its pod does.
        all[0]
            .annotations_mut()
            .insert(annotation::STORED.into(), "Failed".into());
        assert_eq!(goes(&all, 1), ["b"]);
    }
}
