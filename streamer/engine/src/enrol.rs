//! A deployment's first contact: its data key is made only for a server that lets us in, so that a wrong password or an
//! unsupported version leaves nothing behind in the repository.

use hardstorage_report::{DeploymentName, EventSink, Result, Retry, code};
use hardstorage_repository::{Deployment, Repository};

use crate::audit;
use crate::source::{Source, identify};

/// What to do when the server of a new deployment does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// It is an error: there is nothing to do without it.
    Fails,
    /// It may come later: a stream waits for it.
    Waits,
}

/// Opens a deployment, or makes it once its server has answered, as the first record of its audit chain.
pub async fn enrol(
    repository: &Repository,
    name: &DeploymentName,
    source: &Source,
    silence: Silence,
    run_id: Option<String>,
    sink: &dyn EventSink,
) -> Result<Deployment> {
    match repository.deployment(name).await {
        Err(error) if error.is(code::repository::DEPLOYMENT_MISSING) => {}
        other => return other,
    }
    match ask(source).await {
        Err(error) if silence == Silence::Fails || error.retry_advice() == Retry::Never => return Err(error),
        Err(error) => tracing::info!(%error, "the server does not answer yet"),
        Ok(()) => {}
    }
    let deployment = repository.deployment_or_create(name).await?;
    audit::begin(&deployment, run_id, sink).await;
    Ok(deployment)
}

async fn ask(source: &Source) -> Result<()> {
    let mut connection = source.connect().await?;
    identify(&mut connection).await?;
    connection.close().await;
    Ok(())
}
