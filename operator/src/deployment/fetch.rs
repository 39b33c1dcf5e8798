//! Everything that a reconcile of a Deployment looks at, read once at its beginning.

use std::sync::Arc;

use crate::guarded::Guarded;
use hardstorage_crds::ProtectedDeployment;
use hardstorage_crds::condition::deployment::{SOURCE_READY, STREAMING};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ListParams;
use kube::runtime::reflector::Store;
use kube::{Resource as _, ResourceExt as _};

use super::build::{Moved, image_of};
use super::collide::{Collision, collision};
use super::identity;
use super::memory::Memory;
use super::source::{self, SourceFacts};
use super::status::Heard;
use super::upgrade::Seen;
use crate::access::RepositoryAccess;
use crate::apply;
use crate::context::Context;
use crate::controllers::api;
use crate::error::{Error, Result};
use crate::job::PodFacts;
use crate::names::{self, MANAGER, Role, label};
use crate::namespace::NamespaceFacts;
use crate::report::{ServedCatalog, stream_pod};
use crate::repository::{Intent, Refusal, resolve};

/// What all reconciles of this kind share.
pub struct Shared {
    /// All Deployments.
    pub all: Store<Guarded<ProtectedDeployment>>,
    /// What was heard.
    pub memory: Memory,
}

impl Shared {
    /// Those that can be read.
    pub fn deployments(&self) -> Vec<Arc<Guarded<ProtectedDeployment>>> {
        self.all.state()
    }
}

/// The facts.
#[derive(Debug)]
pub struct Facts {
    /// The namespace.
    pub namespace: NamespaceFacts,
    /// The Repository, or why it cannot be used.
    pub repository: std::result::Result<RepositoryAccess, Refusal>,
    /// How many backups it shows as objects.
    pub backup_objects: usize,
    /// The source.
    pub source: SourceFacts,
    /// What an older one has.
    pub collision: Option<Collision>,
    /// The stream.
    pub child: Option<Deployment>,
    /// Another Deployment of apps/v1 that has the stream's name.
    pub namesake: Option<Deployment>,
    /// Its pod.
    pub pod: Option<PodFacts>,
    /// What the pod told.
    pub heard: Heard,
    /// The catalogue that it serves, or served last.
    pub catalog: Option<Arc<ServedCatalog>>,
    /// All streams, when it matters.
    pub streams: Vec<Seen>,
}

/// Reads them.
pub async fn fetch(context: &Context, deployment: &ProtectedDeployment, shared: &Shared) -> Result<Facts> {
    let namespace = deployment.namespace().ok_or(Error::Incomplete("namespace"))?;
    let uid = deployment.uid().ok_or(Error::Incomplete("uid"))?;
    let all = shared.deployments();
    let readable = all.iter().filter_map(|guard| guard.0.as_ref().ok());
    let name_in_repository = identity::current_name(deployment);
    let reference = &deployment.spec.repository_ref;
    let resolved = resolve(context, &namespace, reference, &name_in_repository, Intent::Write).await?;
    let child_name = names::stream(&deployment.name_any());
    let found = apply::get::<Deployment>(context, &namespace, &child_name).await?;
    // Somebody else's Deployment of that name is not asked, and not changed.
    let (child, namesake) = match found {
        Some(found) if !is_controlled_by(&found, &uid) => (None, Some(found)),
        found => (found, None),
    };
    let pod = match &child {
        Some(child) => stream_pod(context, child, &deployment.name_any()).await?,
        None => None,
    };
    let moved = child.as_ref().and_then(Moved::of);
    let heard = listen(context, deployment, &uid, pod.as_ref(), moved, shared).await;
    let target = &context.settings.engine_image;
    let moves = child.as_ref().and_then(image_of).is_some_and(|image| image != *target);
    let streams = match &child {
        Some(_) if moves => streams(context, &all, &shared.memory).await?,
        Some(child) => vec![seen(child, deployment)],
        None => Vec::new(),
    };
    Ok(Facts {
        namespace: NamespaceFacts::look(context, &namespace).await?,
        backup_objects: match &resolved {
            Ok(resolved) => {
                let catalog = resolved.repository.spec.catalog.clone().unwrap_or_default();
                usize::try_from(catalog.max_backup_objects).unwrap_or_default()
            }
            Err(_) => 0,
        },
        repository: resolved.map(|resolved| resolved.access),
        source: source::look(context, deployment).await?,
        collision: collision(deployment, readable),
        child,
        namesake,
        pod,
        heard,
        catalog: shared.memory.get(&uid).catalog,
        streams,
    })
}

/// Whether an object is a child of this one.
pub fn is_controlled_by(child: &Deployment, uid: &str) -> bool {
    let owners = child.metadata.owner_references.as_deref().unwrap_or_default();
    owners
        .iter()
        .any(|owner| owner.uid == uid && owner.controller == Some(true))
}

/// Asks the stream, and for its catalogue when that has changed.
async fn listen(
    context: &Context,
    deployment: &ProtectedDeployment,
    uid: &str,
    pod: Option<&PodFacts>,
    moved: Option<Moved>,
    shared: &Shared,
) -> Heard {
    let mut remembered = shared.memory.get(uid);
    // One from before the last change of its image says nothing about it.
    let asked = pod
        .filter(|pod| pod.phase == "Running")
        .filter(|pod| {
            moved.is_none_or(|moved| {
                pod.created
                    .is_some_and(|created| created.as_second() >= moved.at.as_second())
            })
        })
        .and_then(|pod| pod.ip.clone());
    let report = match asked.as_deref() {
        // Only what names our object's UID is believed.
        Some(ip) => match context.reports.report(ip).await {
            Ok(report) if report.run_id.as_deref() == Some(uid) => Some((ip, report)),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(%error, name = deployment.name_any(), "a stream does not answer");
                None
            }
        },
        None => None,
    };
    let Some((ip, report)) = report else {
        let since = *remembered.heard.get_or_insert(context.now());
        shared.memory.put(uid, remembered);
        return Heard::Silent {
            seconds: context.now().duration_since(since).as_secs(),
        };
    };
    remembered.heard = Some(context.now());
    let known = remembered.catalog.as_ref().map(|catalog| catalog.etag.as_str());
    if let Some(tag) = &report.catalog
        && known != Some(tag.etag.as_str())
    {
        match context.reports.catalog(ip).await {
            Ok(catalog) => remembered.catalog = Some(Arc::new(catalog)),
            Err(error) => tracing::debug!(%error, "the catalogue was not read; it is asked for again"),
        }
    }
    shared.memory.put(uid, remembered);
    Heard::Now(Box::new(report))
}

/// All streams that are ours, with the status of their objects.
async fn streams(context: &Context, all: &[Arc<Guarded<ProtectedDeployment>>], memory: &Memory) -> Result<Vec<Seen>> {
    let now = context.now();
    if let Some(seen) = memory.streams(now) {
        return Ok(seen);
    }
    let selector = format!(
        "{}={MANAGER},{}={}",
        label::MANAGED_BY,
        label::ROLE,
        Role::Stream.as_str()
    );
    let children = api::<Deployment>(context)
        .list(&ListParams::default().labels(&selector))
        .await?;
    let owner_of = |child: &Deployment| {
        all.iter()
            .filter_map(|guard| guard.0.as_ref().ok())
            .find(|object| object.uid().is_some_and(|uid| is_controlled_by(child, &uid)))
    };
    let found = children.items.iter();
    let seen: Vec<Seen> = found
        .filter_map(|child| owner_of(child).map(|owner| seen(child, owner)))
        .collect();
    memory.put_streams(now, seen.clone());
    Ok(seen)
}

fn seen(child: &Deployment, owner: &ProtectedDeployment) -> Seen {
    let status = owner.status.clone().unwrap_or_default();
    let holds = |type_: &str| {
        let conditions = status.conditions.iter();
        conditions
            .into_iter()
            .any(|one| one.type_ == type_ && one.status == "True")
    };
    let unheard = status
        .conditions
        .iter()
        .any(|one| one.type_ == STREAMING && one.status == "Unknown");
    let paused = owner.spec.stream.as_ref().is_some_and(|stream| stream.paused);
    let asleep = status.phase == Some(hardstorage_crds::Phase::Hibernated);
    Seen {
        who: (owner.namespace().unwrap_or_default(), owner.name_any()),
        image: image_of(child).unwrap_or_default(),
        moved: Moved::of(child),
        streams: holds(STREAMING),
        down: !holds(STREAMING) && !unheard,
        observed: status
            .stream
            .as_ref()
            .and_then(|stream| stream.observed_time.as_ref())
            .map(|time| time.0),
        expected: !paused && !asleep && holds(SOURCE_READY) && owner.meta().deletion_timestamp.is_none(),
        pinned: pinned(owner).is_some(),
    }
}

/// The image that the user chose for this object.
pub fn pinned(deployment: &ProtectedDeployment) -> Option<String> {
    let image = deployment.spec.engine.as_ref().and_then(|engine| engine.image.clone());
    image.filter(|image| !image.is_empty())
}
