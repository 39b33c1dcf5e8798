//! `logs`: what the newest pod of a stream, or of a run, writes.

use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{ListParams, LogParams};

use crate::args::LogsArgs;
use crate::connect::Session;
use crate::error::{Error, Result};

/// The container that runs the engine.
const CONTAINER: &str = "engine";

/// Copies the log to stdout.
pub async fn run(session: &Session, args: &LogsArgs) -> Result<u8> {
    let pods = session.here::<Pod>();
    let mut found = Vec::new();
    for selector in selectors(&args.of) {
        found = pods.list(&ListParams::default().labels(&selector)).await?.items;
        if !found.is_empty() {
            break;
        }
    }
    let newest = found
        .into_iter()
        .max_by_key(|pod| pod.metadata.creation_timestamp.clone().map(|time| time.0));
    let Some(pod) = newest else {
        return Err(Error::NotFound(format!(
            "no pod of {} is there in namespace {}",
            args.of, session.namespace
        )));
    };
    let params = LogParams {
        container: Some(CONTAINER.to_owned()),
        follow: args.follow,
        tail_lines: Some(args.tail),
        ..LogParams::default()
    };
    let mut lines = pods.log_stream(&pod.name_any(), &params).await?.lines();
    while let Some(line) = lines.try_next().await? {
        println!("{line}");
    }
    Ok(0)
}

/// Where to look, one after the other: Jobs of a CronJob or by hand bear their own name, and no label of a Backup.
fn selectors(of: &str) -> Vec<String> {
    let (kind, name) = of.split_once('/').unwrap_or(("hsdep", of));
    match kind {
        "backup" | "hsbackup" | "hsbk" => vec![
            format!("hardstorage.dev/backup={name}"),
            format!("batch.kubernetes.io/job-name={name}"),
        ],
        "restore" | "hsrestore" | "hsrs" => vec![format!("hardstorage.dev/restore={name}")],
        _ => vec![format!("hardstorage.dev/deployment={name},hardstorage.dev/role=wal")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_runs_are_told_apart() {
        assert_eq!(
            selectors("hsdep/shop"),
            ["hardstorage.dev/deployment=shop,hardstorage.dev/role=wal"]
        );
        assert_eq!(
            selectors("backup/now"),
            ["hardstorage.dev/backup=now", "batch.kubernetes.io/job-name=now"]
        );
    }
}
