//! The second pod of a drill, and what it finds and is kept from. Pure.
//!
//! It has the copy, a list of questions, and nothing else: no credential of the repository, no token of Kubernetes, nothing
//! from the user's template that could be one, and no way out through the network. What lets it answer the operator is the
//! one thing that lets anybody in.

use std::collections::BTreeMap;

use hardstorage_crds::{DrillDestination, PodTemplate, Restore};
use k8s_openapi::api::core::v1::{ConfigMap, ConfigMapVolumeSource, PodTemplateSpec, Volume, VolumeMount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;

use crate::backup::target::duration;
use crate::job::JobPlan;
use crate::names::{self, Role, label};
use crate::pod::{self, DefaultResources, EnginePod, Image, Life, Surroundings};
use crate::restore::build::{active_deadline, template};
use crate::restore::destination::Wanted;

/// How long the pod answers after its end, until it was heard.
const LINGER: u32 = 30;
/// Where it finds the questions.
const FOLDER: &str = "/etc/pg-hardstorage/drill";
const FILE: &str = "checks.json";
/// How long a question may take that says nothing readable about it.
const TIMEOUT: std::time::Duration = std::time::Duration::from_mins(1);

/// The name of its Job, its ConfigMap and its NetworkPolicy.
pub fn name(restore: &Restore) -> String {
    names::job(&restore.name_any(), Role::Drill, &restore.uid().unwrap_or_default())
}

/// The questions, as the engine reads them.
pub fn checks(restore: &Restore, drill: &DrillDestination) -> ConfigMap {
    let all: Vec<_> = drill
        .checks
        .iter()
        .map(|check| {
            let mut one = json!({"name": check.name, "database": check.database, "sql": check.sql,
                "timeout_seconds": duration(Some(&check.timeout), TIMEOUT).as_secs().max(1)});
            if let Some(expect) = &check.expect {
                one["expect"] = json!(expect);
            }
            one
        })
        .collect();
    ConfigMap {
        metadata: metadata(restore),
        data: Some(BTreeMap::from([(FILE.to_owned(), json!(all).to_string())])),
        ..ConfigMap::default()
    }
}

/// Nothing goes out, and only the operator comes in.
pub fn isolation(restore: &Restore, operator: &str) -> NetworkPolicy {
    let role = Role::Drill.as_str();
    let pods = [(label::ROLE, role), (label::RESTORE, &restore.name_any())];
    pod::isolation(metadata(restore), &pods, operator)
}

/// The Job that asks.
pub fn job(restore: &Restore, wanted: &Wanted, engine: &Image, surroundings: Surroundings) -> JobPlan {
    let spec = &restore.spec;
    let template = template(restore, wanted).map(|template| PodTemplate {
        // Either may bring credentials along.
        env: None,
        service_account_name: None,
        ..template
    });
    let pod = EnginePod {
        command: vec![
            "drill".to_owned(),
            "check".to_owned(),
            format!("--data={}", wanted.directory),
            format!("--checks={FOLDER}/{FILE}"),
            "--pg-bin=auto".to_owned(),
        ],
        labels: labels(restore),
        image: wanted.postgres.clone().unwrap_or_else(|| engine.clone()),
        life: Life::Once { linger: LINGER },
        run_id: None,
        repository: None,
        signs: false,
        source: None,
        snapshot: None,
        data: Some(&wanted.data),
        resources: spec.resources.as_ref(),
        default_resources: DefaultResources::RESTORE,
        template: template.as_ref(),
        surroundings,
    };
    let mut pod = pod.build();
    mount(&mut pod, &name(restore));
    JobPlan {
        namespace: restore.namespace().unwrap_or_default(),
        name: name(restore),
        labels: labels(restore),
        owner: restore.controller_owner_ref(&()),
        backoff_limit: spec.backoff_limit,
        active_deadline: active_deadline(restore),
        suspend: false,
        pod,
    }
}

fn mount(pod: &mut PodTemplateSpec, config_map: &str) {
    const VOLUME: &str = "checks";
    let Some(spec) = &mut pod.spec else { return };
    spec.volumes.get_or_insert_default().push(Volume {
        name: VOLUME.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: config_map.to_owned(),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    });
    for container in &mut spec.containers {
        container.volume_mounts.get_or_insert_default().push(VolumeMount {
            name: VOLUME.to_owned(),
            mount_path: FOLDER.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
}

fn metadata(restore: &Restore) -> ObjectMeta {
    ObjectMeta {
        namespace: restore.namespace(),
        name: Some(name(restore)),
        labels: Some(labels(restore)),
        owner_references: restore.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// Not that of its repository: who may ask the pods of that one has no business here.
fn labels(restore: &Restore) -> BTreeMap<String, String> {
    let mut labels = names::own_labels(Role::Drill);
    labels.insert(label::RESTORE.to_owned(), restore.name_any());
    labels
}
