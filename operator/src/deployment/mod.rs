//! Deployment: a cluster whose WAL is streamed into a repository, always.
//!
//! [`reconcile`] goes `fetch -> plan -> children -> status`, all that decides is pure: [`source`] (where WAL comes from),
//! [`collide`] (who has what two want), [`lineage`] (which cluster it is), [`upgrade`] (whose turn it is), [`retention`],
//! [`delete`], [`status`]. Others use [`source::look`], and the names in [`identity`].

mod build;
mod children;
mod collide;
mod delete;
mod deletion;
mod erase;
mod fetch;
pub mod identity;
mod lineage;
mod memory;
mod plan;
mod reconcile;
mod retain;
pub mod retention;
#[cfg(test)]
mod samples;
pub mod source;
mod status;
mod steady;
mod upgrade;
mod wake;

use std::sync::Arc;

use crate::guarded::Guarded;
use hardstorage_crds::ProtectedDeployment;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::runtime::Controller;
use kube::runtime::watcher;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::controllers::{api, drive};
pub use upgrade::Staging;

use fetch::Shared;
use memory::Memory;

/// Runs the controller.
pub async fn run(context: Arc<Context>, stop: CancellationToken) {
    let watched: Api<Guarded<ProtectedDeployment>> = guarded(&context);
    let controller = Controller::new(watched, watcher::Config::default());
    let shared = Arc::new(Shared {
        all: controller.store(),
        memory: Memory::default(),
    });
    let controller = wake::by_children::<Deployment>(controller, api(&context), &shared);
    let controller = wake::by_children::<Job>(controller, api(&context), &shared);
    let controller = wake::by_children::<Service>(controller, api(&context), &shared);
    let controller = wake::by_repositories(controller, api(&context), &shared);
    let work = move |deployment: Arc<ProtectedDeployment>, context: Arc<Context>| {
        reconcile::reconcile(deployment, context, shared.clone())
    };
    drive(reconcile::KIND, controller, context, stop, work).await;
}

fn guarded(context: &Context) -> Api<Guarded<ProtectedDeployment>> {
    api(context)
}
