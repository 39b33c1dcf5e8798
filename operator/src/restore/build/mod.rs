//! The Jobs of a Restore: the one that plans, and the one that fills the place. Pure.
//!
//! Neither holds a key that signs, nor reaches a server: they only read the repository. A Job holds no data, so it goes with
//! its Restore.

use std::collections::BTreeMap;

use hardstorage_crds::{PodTemplate, Restore, Subscriptions};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{LocalObjectReference, Toleration};
use kube::{Resource as _, ResourceExt as _};
use serde_json::Value;

use super::destination::Wanted;
use super::destination::drill::tablespace;
use super::resolve::Source;
use super::target::{wanted_time, words};
use crate::backup::target::duration;
use crate::job::JobPlan;
use crate::names::{self, Role, label};
use crate::pod::{DefaultResources, EnginePod, Image, Life, Surroundings};

/// How long a plan may take, the wait for a node included.
const PLAN_SECONDS: i64 = 30 * 60;
/// How long a pod answers after a plan, of which there is no more than what it serves.
const LINGER_PLAN: u32 = 300;
/// How long a pod answers after a restore, until it was heard.
const LINGER: u32 = 30;

/// What both are built from.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// The object.
    pub restore: &'a Restore,
    /// Where it restores from.
    pub source: &'a Source,
    /// The engine.
    pub engine: &'a Image,
    /// Where the pods run.
    pub surroundings: Surroundings,
}

/// The name of the Job that plans; another one for the nearest moment.
pub fn plan_name(restore: &Restore, nearest: Option<Timestamp>) -> String {
    let seed = nearest.map_or_else(String::new, |time| format!("/{time}"));
    let uid = restore.uid().unwrap_or_default();
    names::job(&restore.name_any(), Role::Plan, &format!("{uid}{seed}"))
}

/// The name of the Job that fills the place.
pub fn run_name(restore: &Restore) -> String {
    names::job(&restore.name_any(), Role::Restore, &restore.uid().unwrap_or_default())
}

/// The Job that plans. It has one try: the wait between two is ours, so that the condition tells the first failure.
pub fn plan(ground: &Ground<'_>, time: Option<Timestamp>, nearest: Option<Timestamp>) -> JobPlan {
    let spec = &ground.restore.spec;
    let mut command = command(ground, &spec.backup, "/restore/pgdata");
    command.push("--preview".to_owned());
    command.extend(words(spec.recovery_target.as_ref(), time, None));
    if stays_for_others(ground.restore) {
        command.push("--wal-in-target".to_owned());
    }
    let pod = EnginePod {
        command,
        labels: labels(ground, Role::Plan),
        image: ground.engine.clone(),
        life: Life::Once { linger: LINGER_PLAN },
        run_id: None,
        repository: Some(&ground.source.repository.access),
        signs: false,
        source: None,
        snapshot: None,
        data: None,
        resources: None,
        default_resources: DefaultResources::LOOK,
        template: spec.pod_template.as_ref(),
        surroundings: ground.surroundings,
    };
    JobPlan {
        backoff_limit: 0,
        active_deadline: PLAN_SECONDS,
        ..job(ground, Role::Plan, plan_name(ground.restore, nearest), &pod)
    }
}

/// The Job that fills the place: exactly what the status says that was planned.
pub fn run(ground: &Ground<'_>, wanted: &Wanted) -> JobPlan {
    let spec = &ground.restore.spec;
    let template = template(ground.restore, wanted);
    let pod = EnginePod {
        command: fill(ground, wanted),
        labels: labels(ground, Role::Restore),
        image: wanted.postgres.clone().unwrap_or_else(|| ground.engine.clone()),
        life: Life::Once { linger: LINGER },
        run_id: None,
        repository: Some(&ground.source.repository.access),
        signs: false,
        source: None,
        snapshot: None,
        data: Some(&wanted.data),
        resources: spec.resources.as_ref(),
        default_resources: DefaultResources::RESTORE,
        template: template.as_ref(),
        surroundings: ground.surroundings,
    };
    JobPlan {
        backoff_limit: spec.backoff_limit,
        active_deadline: active_deadline(ground.restore),
        ..job(ground, Role::Restore, run_name(ground.restore), &pod)
    }
}

/// Seconds that all tries of a Job may take together.
pub fn active_deadline(restore: &Restore) -> i64 {
    let active = duration(Some(&restore.spec.active_deadline), std::time::Duration::from_hours(24));
    i64::try_from(active.as_secs()).unwrap_or(i64::MAX).max(1)
}

/// The settings of the pods that PostgreSQL runs in. A copy of a drill runs where there is room, and not beside the servers;
/// the image may need the Secret that their Cluster names.
pub fn template(restore: &Restore, wanted: &Wanted) -> Option<PodTemplate> {
    let theirs = restore.spec.pod_template.as_ref();
    if restore.spec.destination.drill.is_none() {
        return beside_the_cluster(theirs, wanted.cluster.as_ref());
    }
    let plan = restore.status.as_ref().and_then(|status| status.plan.as_ref());
    let recorded = plan.and_then(|plan| plan.source_snapshot.as_ref()?.get("cluster")?.get("spec"));
    let mut template = theirs.cloned().unwrap_or_default();
    let secrets = || read(recorded?, "/imagePullSecrets");
    template.image_pull_secrets = template.image_pull_secrets.or_else(secrets);
    Some(template)
}

fn job(ground: &Ground<'_>, role: Role, name: String, pod: &EnginePod<'_>) -> JobPlan {
    JobPlan {
        namespace: ground.restore.namespace().unwrap_or_default(),
        name,
        labels: labels(ground, role),
        owner: ground.restore.controller_owner_ref(&()),
        backoff_limit: 0,
        active_deadline: PLAN_SECONDS,
        suspend: false,
        pod: pod.build(),
    }
}

fn labels(ground: &Ground<'_>, role: Role) -> BTreeMap<String, String> {
    let mut labels = names::own_labels(role);
    labels.insert(label::RESTORE.to_owned(), ground.restore.name_any());
    labels.insert(
        label::REPOSITORY.to_owned(),
        ground.source.repository.access.name.clone(),
    );
    labels
}

/// Whether the directory is left for a server that knows nothing of us.
fn stays_for_others(restore: &Restore) -> bool {
    restore.spec.destination.persistent_volume_claim.is_some() && restore.spec.postgres_image.is_none()
}

fn command(ground: &Ground<'_>, backup: &str, target: &str) -> Vec<String> {
    vec![
        "restore".to_owned(),
        ground.source.name.clone(),
        backup.to_owned(),
        format!("--repo={}", ground.source.repository.access.engine_url()),
        format!("--target={target}"),
    ]
}

fn fill(ground: &Ground<'_>, wanted: &Wanted) -> Vec<String> {
    let spec = &ground.restore.spec;
    let target = ground
        .restore
        .status
        .as_ref()
        .and_then(|status| status.target.clone())
        .unwrap_or_default();
    let backup = target.backup_id.as_deref().unwrap_or(&spec.backup);
    let mut command = command(ground, backup, &wanted.directory);
    let time = target.time.as_ref().map(|time| time.0);
    let time = time.or_else(|| wanted_time(ground.restore).ok().flatten());
    command.extend(words(spec.recovery_target.as_ref(), time, target.timeline));
    let mut option = |name: &str, value: &str| command.push(format!("--{name}={value}"));
    option("retry-id", &ground.restore.uid().unwrap_or_default());
    if !ground.surroundings.assigns_users {
        let user = wanted.data.user;
        option("owner", &format!("{}:{}", user.uid, user.gid));
    }
    if let Some(wal) = &wanted.wal_dir {
        option("wal-dir", wal);
    }
    if spec.destination.drill.is_some() {
        let plan = ground.restore.status.as_ref().and_then(|status| status.plan.as_ref());
        let spaces = plan.map(|plan| plan.tablespaces.as_slice()).unwrap_or_default();
        for (number, space) in spaces.iter().enumerate() {
            option("tablespace-mapping", &format!("{space}={}", tablespace(number)));
        }
    }
    if wanted.postgres.is_some() {
        let to = match &spec.destination.patroni {
            Some(_) => "patroni",
            None if spec.destination.drill.is_some() => "drill",
            None if wanted.cluster.is_some() => "cnpg",
            None => "plain",
        };
        let keeps = spec.subscriptions == Subscriptions::Keep;
        option("hand-over", to);
        option("pg-bin", "auto");
        option("subscriptions", if keeps { "keep" } else { "disable" });
        command.push("--recover".to_owned());
    } else {
        option("to-action", "promote");
        command.push("--wal-in-target".to_owned());
    }
    command
}

/// The pod's node decides where a volume is made, and the image may need a Secret: what the Cluster says of both holds for
/// the pod too, unless the user says something else.
fn beside_the_cluster(theirs: Option<&PodTemplate>, cluster: Option<&Value>) -> Option<PodTemplate> {
    let Some(spec) = cluster.and_then(|cluster| cluster.get("spec")) else {
        return theirs.cloned();
    };
    let mut template = theirs.cloned().unwrap_or_default();
    let secrets = || read::<Vec<LocalObjectReference>>(spec, "/imagePullSecrets");
    template.image_pull_secrets = template.image_pull_secrets.or_else(secrets);
    let selector = || read::<BTreeMap<String, String>>(spec, "/affinity/nodeSelector");
    template.node_selector = template.node_selector.or_else(selector);
    let tolerations = || read::<Vec<Toleration>>(spec, "/affinity/tolerations");
    template.tolerations = template.tolerations.or_else(tolerations);
    Some(template)
}

/// What does not read as what it should be is CloudNativePG's to refuse.
fn read<T: serde::de::DeserializeOwned>(spec: &Value, path: &str) -> Option<T> {
    spec.pointer(path)
        .and_then(|value| serde_json::from_value(value.clone()).ok())
}

#[cfg(test)]
mod tests;
