//! Pods that run the engine: built from what they reach and what they are told. Pure.
//!
//! Every pod is unprivileged and has no token of Kubernetes unless a workload identity needs one. Secrets are mounted as
//! files, each key optional, and read by the engine when it needs them: a Secret that is rotated, or comes late, restarts
//! nothing. No password is ever an argument or in the environment.

mod data;
mod network_policy;
mod resources;
mod security;
mod template;
mod volumes;

use std::collections::BTreeMap;

use hardstorage_crds::{PodTemplate, Resources};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, ObjectFieldSelector, PodSpec, PodTemplateSpec, Probe,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::access::{RepositoryAccess, SourceAccess, path};
use crate::names::{REPORT_PORT, label};

pub use data::{DataDirectory, Mount, User};
pub use network_policy::{isolation, network_policy};
pub use resources::amount;
pub use security::{Surroundings, USER as ENGINE_USER};

/// The engine's container in every pod.
pub const ENGINE_CONTAINER: &str = "engine";

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name.
    pub name: String,
    /// When it is pulled.
    pub pull_policy: String,
}

/// How a pod lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// For ever: the stream.
    Always,
    /// To its end: a Job. It goes on answering for so many seconds until its result was heard.
    Once {
        /// Seconds.
        linger: u32,
    },
}

/// A pod that runs the engine.
#[derive(Debug, Clone)]
pub struct EnginePod<'a> {
    /// The command and its own arguments; those that every run has are added.
    pub command: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The image.
    pub image: Image,
    /// How it lives.
    pub life: Life,
    /// The id that its report bears; none for a Job, whose UID it is.
    pub run_id: Option<String>,
    /// The repository.
    pub repository: Option<&'a RepositoryAccess>,
    /// Whether it holds the key that signs manifests.
    pub signs: bool,
    /// The server.
    pub source: Option<&'a SourceAccess>,
    /// A ConfigMap whose key `source.json` is kept with the backup.
    pub snapshot: Option<String>,
    /// The data directory that it fills.
    pub data: Option<&'a DataDirectory>,
    /// What the container asks for and may take.
    pub resources: Option<&'a Resources>,
    /// What it asks for and may take where the user says nothing: name, request, limit.
    pub default_resources: DefaultResources,
    /// The user's settings.
    pub template: Option<&'a PodTemplate>,
    /// Where it will run.
    pub surroundings: Surroundings,
}

/// Requests and limits where the user gives none. Every container has a memory limit: a `LimitRange` of 128Mi that nobody
/// knew of has killed many a backup silently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultResources {
    /// CPU that is set aside.
    pub cpu: &'static str,
    /// Memory that is set aside.
    pub memory: &'static str,
    /// Memory that may be taken.
    pub memory_limit: &'static str,
}

impl DefaultResources {
    /// For a stream.
    pub const STREAM: DefaultResources = DefaultResources {
        cpu: "50m",
        memory: "64Mi",
        memory_limit: "128Mi",
    };
    /// For a backup or a check, which read all of a database in bounded memory.
    pub const BACKUP: DefaultResources = DefaultResources {
        cpu: "100m",
        memory: "128Mi",
        memory_limit: "256Mi",
    };
    /// For a restore, which may run PostgreSQL to recover.
    pub const RESTORE: DefaultResources = DefaultResources {
        cpu: "100m",
        memory: "256Mi",
        memory_limit: "1Gi",
    };
    /// For what only looks.
    pub const LOOK: DefaultResources = DefaultResources {
        cpu: "20m",
        memory: "32Mi",
        memory_limit: "128Mi",
    };
}

impl EnginePod<'_> {
    /// The pod.
    pub fn build(&self) -> PodTemplateSpec {
        let volumes = volumes::volumes(self);
        let (volumes, mounts) = volumes.into_iter().unzip();
        let identity = self
            .repository
            .and_then(|repository| repository.service_account.clone());
        let mut pod = PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(self.labels.clone()),
                annotations: Some(security::annotations(self.life)),
                ..ObjectMeta::default()
            }),
            spec: Some(PodSpec {
                init_containers: self.data.and_then(data::installs),
                containers: vec![Container {
                    name: ENGINE_CONTAINER.to_owned(),
                    image: Some(self.image.name.clone()),
                    image_pull_policy: Some(self.image.pull_policy.clone()),
                    command: Some(vec![data::program(self.data).to_owned()]),
                    args: Some(self.arguments()),
                    env: Some(self.environment()),
                    ports: Some(vec![ContainerPort {
                        name: Some("report".to_owned()),
                        container_port: i32::from(REPORT_PORT),
                        ..ContainerPort::default()
                    }]),
                    readiness_probe: (self.life == Life::Always).then(|| probe(5)),
                    liveness_probe: (self.life == Life::Always).then(|| probe(30)),
                    resources: Some(resources::requirements(self.default_resources, self.resources)),
                    volume_mounts: Some(mounts),
                    security_context: Some(security::container()),
                    termination_message_policy: Some("File".to_owned()),
                    ..Container::default()
                }],
                volumes: Some(volumes),
                restart_policy: Some(if self.life == Life::Always { "Always" } else { "Never" }.to_owned()),
                security_context: Some(security::pod(self)),
                // A workload identity is a projected token of the ServiceAccount; nothing else speaks to Kubernetes.
                automount_service_account_token: Some(identity.is_some()),
                service_account_name: identity,
                enable_service_links: Some(false),
                termination_grace_period_seconds: Some(30),
                tolerations: (self.life == Life::Always).then(template::lost_nodes),
                affinity: self.repository.and_then(template::beside_the_claim),
                ..PodSpec::default()
            }),
        };
        if let Some(wanted) = self.template {
            template::overlay(&mut pod, wanted);
        }
        pod
    }

    fn arguments(&self) -> Vec<String> {
        let mut args = self.command.clone();
        let mut add = |words: &[&str]| args.extend(words.iter().map(|word| (*word).to_owned()));
        if let Some(source) = self.source {
            add(&["--pg-connection", &source.conninfo()]);
        }
        add(&["--credentials-dir", path::CREDENTIALS]);
        add(&["--report-listen", &format!("0.0.0.0:{REPORT_PORT}")]);
        // Kubernetes puts the value in.
        add(&["--run-id", self.run_id.as_deref().unwrap_or("$(RUN_ID)")]);
        add(&["--termination-file", "/dev/termination-log"]);
        if let Life::Once { linger } = self.life {
            add(&["--report-linger", &format!("{linger}s")]);
        }
        if self.snapshot.is_some() {
            add(&["--source-snapshot", path::SNAPSHOT]);
        }
        add(&["-o", "ndjson"]);
        args
    }

    fn environment(&self) -> Vec<EnvVar> {
        let value = |name: &str, value: &str| EnvVar {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            ..EnvVar::default()
        };
        let mut env = vec![value("HOME", "/tmp"), value("TMPDIR", "/tmp")];
        if self.run_id.is_none() {
            env.push(EnvVar {
                name: "RUN_ID".to_owned(),
                value_from: Some(EnvVarSource {
                    field_ref: Some(ObjectFieldSelector {
                        field_path: format!("metadata.labels['{}']", label::JOB_UID),
                        ..ObjectFieldSelector::default()
                    }),
                    ..EnvVarSource::default()
                }),
                ..EnvVar::default()
            });
        }
        env
    }
}

fn probe(period: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some("/healthz".to_owned()),
            port: IntOrString::Int(i32::from(REPORT_PORT)),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(6),
        ..Probe::default()
    }
}

#[cfg(test)]
mod tests;
