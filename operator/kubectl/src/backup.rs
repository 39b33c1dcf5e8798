//! `backup`: a Backup object, and what becomes of it.

use hardstorage_crds::{Backup, BackupPhase, BackupSpec, DeploymentRef, ProtectedDeployment};
use jiff::Timestamp;
use kube::api::PostParams;
use kube::core::DeserializeGuard;

use crate::args::{BackupArgs, Format};
use crate::connect::Session;
use crate::error::{Error, Result};
use crate::output::{dash, stamped};
use crate::wait::{Seen, until};

/// Asks for it, and waits for its end.
pub async fn run(session: &Session, args: &BackupArgs) -> Result<u8> {
    let deployments = session.here::<DeserializeGuard<ProtectedDeployment>>();
    if deployments.get_opt(&args.deployment).await?.is_none() {
        return Err(Error::NotFound(format!(
            "there is no Deployment {} of hardstorage.dev in namespace {}",
            args.deployment, session.namespace
        )));
    }
    let name = args
        .name
        .clone()
        .unwrap_or_else(|| stamped(&args.deployment, Timestamp::now()));
    let mut wish = Backup::new(
        &name,
        BackupSpec {
            deployment_ref: Some(DeploymentRef {
                name: args.deployment.clone(),
            }),
            label: args.label.clone(),
            ..BackupSpec::default()
        },
    );
    wish.metadata.namespace = Some(session.namespace.clone());
    let api = session.here::<Backup>();
    api.create(&PostParams::default(), &wish).await?;
    eprintln!("hsbackup/{name} created");
    if args.no_wait {
        return Ok(0);
    }
    let ended = until(api, &name, look).await?;
    let status = ended.status.clone().unwrap_or_default();
    match args.output {
        Format::Json => println!("{}", serde_json::to_string_pretty(&ended)?),
        Format::Text => println!(
            "{name}: {} ({} of {} stored, {})",
            dash(status.backup_id.as_ref()),
            dash(status.stored.as_ref()),
            dash(status.size.as_ref()),
            dash(status.duration.as_ref()),
        ),
    }
    match status.failure {
        Some(failure) if status.phase == Some(BackupPhase::Failed) => Err(Error::Failed(
            format!(
                "the backup failed: {}",
                failure.message.or(failure.code).unwrap_or_default()
            ),
            failure.hint,
        )),
        _ if status.phase == Some(BackupPhase::Failed) => Err(Error::Failed("the backup failed".to_owned(), None)),
        _ => Ok(0),
    }
}

fn look(backup: &Backup) -> Seen<Backup> {
    let status = backup.status.clone().unwrap_or_default();
    match status.phase {
        Some(BackupPhase::Completed | BackupPhase::Failed | BackupPhase::Tombstoned) => Seen::Ended(backup.clone()),
        phase => {
            let percent = status.progress.and_then(|progress| progress.percent);
            let percent = percent.map_or_else(String::new, |percent| format!(" {percent} %"));
            // What it waits for, and not only that it waits.
            let why = status.conditions.iter().find(|condition| condition.type_ == "Ready");
            let why = why.map_or_else(String::new, |ready| format!(" ({}: {})", ready.reason, ready.message));
            Seen::Going(format!("{}{percent}{why}", dash(phase)))
        }
    }
}
