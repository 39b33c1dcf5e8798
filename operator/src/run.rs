//! From start to end: wait for the definitions, for our turn, run every controller, end gracefully.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::Api;
use kube::{Client, CustomResourceExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::controllers;
use crate::lease::{self, Elector, Held};
use crate::metrics::Metrics;
use crate::report::HttpReports;
use crate::serve::{Ready, serve};
use crate::settings::Settings;

/// How often it is looked whether the definitions are served.
const LOOK: Duration = Duration::from_secs(2);

/// Runs until a signal, or until the Lease is lost: then the process must end, so that two never act.
pub async fn run(settings: Settings) -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::try_default().await?;
    let (metrics, ready, stop) = (Metrics::default(), Ready::default(), CancellationToken::new());
    let served = tokio::spawn(serve(settings.listen, metrics.clone(), ready.clone()));
    stop_on_signals(stop.clone())?;
    if !wait_for_definitions(&client, &stop).await {
        return Ok(());
    }
    ready.set();
    let mut elector = Elector::new(client.clone(), &settings.namespace, &settings.lease, &settings.identity);
    if !elector.acquire(&stop).await {
        return Ok(());
    }
    metrics.leads(true);
    tracing::info!(identity = settings.identity, "this replica acts");
    let context = Context::new(client, settings, Arc::new(HttpReports::default()), metrics.clone());
    let stopped = CancellationToken::new();
    let work = tokio::spawn(controllers::run(context, stopped.clone()));
    let held = tokio::select! {
        held = elector.hold(&stop) => held,
        ended = served => return Err(match ended? {
            Ok(()) => "the server of /metrics has ended".into(),
            Err(error) => error.into(),
        }),
    };
    metrics.leads(false);
    match held {
        Held::Lost => Err("the Lease is lost: another replica may act".into()),
        Held::Stopped => {
            stopped.cancel();
            // Nothing renews the Lease any more: what has not ended by then must not go on beside the next replica.
            match tokio::time::timeout(lease::DEADLINE, work).await {
                Ok(ended) => ended?,
                Err(_) => {
                    return Err(
                        "the work in hand did not end in time: another replica waits for the Lease's end".into(),
                    );
                }
            }
            if let Err(error) = elector.release().await {
                tracing::warn!(%error, "the Lease was not let go: the next replica waits for its end");
            }
            Ok(())
        }
    }
}

/// Not before the definitions are served: a watch of what is not there is an endless error.
async fn wait_for_definitions(client: &Client, stop: &CancellationToken) -> bool {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let names = [
        hardstorage_crds::Repository::crd_name(),
        hardstorage_crds::ProtectedDeployment::crd_name(),
        hardstorage_crds::BackupSchedule::crd_name(),
        hardstorage_crds::Backup::crd_name(),
        hardstorage_crds::Restore::crd_name(),
    ];
    loop {
        let mut missing = Vec::new();
        for name in names {
            let established = match api.get_opt(name).await {
                Ok(found) => found.is_some_and(|definition| is_established(&definition)),
                Err(error) => {
                    tracing::warn!(%error, name, "the definition could not be read");
                    false
                }
            };
            if !established {
                missing.push(name);
            }
        }
        if missing.is_empty() {
            return true;
        }
        tracing::info!(?missing, "waiting for definitions: kubectl apply -f crds/");
        tokio::select! {
            () = stop.cancelled() => return false,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

fn is_established(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| {
        conditions
            .iter()
            .any(|condition| condition.type_ == "Established" && condition.status == "True")
    })
}

fn stop_on_signals(stop: CancellationToken) -> std::io::Result<()> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}
