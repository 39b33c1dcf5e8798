//! The stream: an apps/v1 Deployment of one pod that is replaced, never doubled, since the slot admits one walsender.

use std::collections::BTreeMap;

use hardstorage_crds::ProtectedDeployment;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt as _;

use super::metadata;
use crate::access::{RepositoryAccess, SourceAccess};
use crate::deployment::identity;
use crate::names::{self, Role, annotation, label};
use crate::pod::{DefaultResources, ENGINE_CONTAINER, EnginePod, Image, Life, Surroundings};

/// On the child: when its image was changed to the one that it has.
const MOVED_AT: &str = "hardstorage.dev/moved-at";
/// On the child: whether it streamed when its image was changed.
const MOVED_WHILE_STREAMING: &str = "hardstorage.dev/moved-while-streaming";

/// The last change of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// When.
    pub at: Timestamp,
    /// Whether it streamed then.
    pub streamed: bool,
}

impl Moved {
    /// What the child says of it.
    pub fn of(child: &Deployment) -> Option<Moved> {
        let annotations = child.annotations();
        Some(Moved {
            at: annotations.get(MOVED_AT)?.parse().ok()?,
            streamed: annotations
                .get(MOVED_WHILE_STREAMING)
                .is_some_and(|text| text == "true"),
        })
    }
}

/// A stream to be.
#[derive(Debug, Clone)]
pub struct StreamPlan<'a> {
    /// Whose it is.
    pub deployment: &'a ProtectedDeployment,
    /// Where it goes.
    pub repository: &'a RepositoryAccess,
    /// Where it comes from.
    pub source: &'a SourceAccess,
    /// The name in the repository.
    pub name_in_repository: &'a str,
    /// The image.
    pub image: Image,
    /// The last change of the image.
    pub moved: Option<Moved>,
    /// Where it will run.
    pub surroundings: Surroundings,
}

/// The stream.
pub fn stream(plan: &StreamPlan<'_>) -> Deployment {
    let deployment = plan.deployment;
    let wanted = deployment.spec.stream.clone().unwrap_or_default();
    let labels = identity::labels(deployment, Role::Stream);
    let mut command: Vec<String> = ["wal", "stream", plan.name_in_repository]
        .into_iter()
        .map(str::to_owned)
        .collect();
    let mut add = |name: &str, value: &str| command.extend([name.to_owned(), value.to_owned()]);
    add("--repo", &plan.repository.engine_url());
    add("--slot", &identity::slot(deployment));
    add("--flush-interval", wanted.flush_interval.as_str());
    // A slot that somebody else holds is waited for: ending would only restart the pod.
    command.push("--wait".to_owned());
    if plan.source.standby {
        command.push("--allow-standby-source".to_owned());
    }
    let pod = EnginePod {
        command,
        labels: labels.clone(),
        image: plan.image.clone(),
        life: Life::Always,
        run_id: Some(deployment.uid().unwrap_or_default()),
        repository: Some(plan.repository),
        signs: false,
        source: Some(plan.source),
        snapshot: None,
        data: None,
        resources: wanted.resources.as_ref(),
        default_resources: DefaultResources::STREAM,
        template: deployment.spec.pod_template.as_ref(),
        surroundings: plan.surroundings,
    };
    let mut child = Deployment {
        metadata: metadata(deployment, names::stream(&deployment.name_any()), labels),
        spec: Some(DeploymentSpec {
            replicas: Some(i32::from(!wanted.paused)),
            // It cannot be changed: only what never changes.
            selector: LabelSelector {
                match_labels: Some(BTreeMap::from([
                    (label::ROLE.to_owned(), Role::Stream.as_str().to_owned()),
                    (label::DEPLOYMENT.to_owned(), deployment.name_any()),
                ])),
                ..LabelSelector::default()
            },
            strategy: Some(DeploymentStrategy {
                type_: Some("Recreate".to_owned()),
                ..DeploymentStrategy::default()
            }),
            revision_history_limit: Some(2),
            template: pod.build(),
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    };
    if let Some(generation) = deployment.metadata.generation {
        let annotations = child.annotations_mut();
        annotations.insert(annotation::GENERATION.to_owned(), generation.to_string());
    }
    if let Some(moved) = plan.moved {
        child.annotations_mut().extend([
            (MOVED_AT.to_owned(), moved.at.to_string()),
            (MOVED_WHILE_STREAMING.to_owned(), moved.streamed.to_string()),
        ]);
    }
    child
}

/// The generation of the object that a child was built for.
pub fn built_for(child: &Deployment) -> Option<i64> {
    child.annotations().get(annotation::GENERATION)?.parse().ok()
}

/// The image that a child runs.
pub fn image_of(child: &Deployment) -> Option<String> {
    let pod = child.spec.as_ref()?.template.spec.as_ref()?;
    let engine = pod.containers.iter().find(|one| one.name == ENGINE_CONTAINER)?;
    engine.image.clone()
}
