//! Restore: planned, its place made, filled, taken over, told.
//!
//! What holds data is owned by nobody of ours: a Restore that is deleted takes no database with it, and one that is applied
//! a second time finds its place used and touches nothing. Each reconcile looks, decides (pure), takes one step, and stores
//! what came of it before anything that the next step would need is put away.

mod build;
mod cluster;
mod decide;
mod delete;
mod destination;
mod drill;
mod fetch;
mod patroni;
mod plan;
mod planning;
mod prepare;
mod resolve;
mod result;
mod run;
#[cfg(test)]
mod samples;
mod status;
mod store;
mod target;

use std::sync::Arc;

use crate::guarded::Guarded;
use hardstorage_crds::Restore;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::controllers::{api, drive, ours};
use crate::error::{Error, Result};
use crate::names::label;

pub use decide::is_over;

/// Runs the controller.
pub async fn run(context: Arc<Context>, stop: CancellationToken) {
    let controller = Controller::new(api::<Guarded<Restore>>(&context), watcher::Config::default()).watches(
        api::<Job>(&context),
        ours(),
        |job| of_job(&job),
    );
    drive("Restore", controller, context, stop, reconcile).await;
}

/// The Restore that a Job was made for.
fn of_job(job: &Job) -> Option<ObjectRef<Guarded<Restore>>> {
    let name = job.labels().get(label::RESTORE)?;
    Some(ObjectRef::new(name).within(&job.namespace()?))
}

async fn reconcile(restore: Arc<Restore>, context: Arc<Context>) -> Result<Action> {
    let work = run::Work {
        context: &context,
        restore: &restore,
        namespace: &restore.namespace().ok_or(Error::Incomplete("namespace"))?,
        uid: &restore.uid().ok_or(Error::Incomplete("uid"))?,
    };
    work.go().await
}

#[cfg(test)]
mod tests;
