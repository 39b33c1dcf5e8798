//! `restore`: a Restore object, its plan, and what becomes of it.

use hardstorage_crds::{
    ClaimDestination, ClusterDestination, DeploymentRef, Destination, NameInRepository, NewClaim, Reachable,
    RecoveryTarget, RepositoryRef, Restore, RestoreFailure, RestorePhase, RestoreSource, RestoreSpec,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;

use crate::args::{Format, RestoreArgs};
use crate::connect::Session;
use crate::error::{Error, Result};
use crate::output::{dash, stamped};
use crate::wait::{Seen, until};

/// Writes the object, and waits for its end.
pub async fn run(session: &Session, args: &RestoreArgs) -> Result<u8> {
    let name = args.name.clone().unwrap_or_else(|| stamped(&args.of, Timestamp::now()));
    let Some(ended) = follow(session, &name, spec(args)?, args.no_wait, args.output).await? else {
        return Ok(0);
    };
    let status = ended.status.clone().unwrap_or_default();
    match status.phase {
        Some(RestorePhase::Completed) => {
            if args.output == Format::Text {
                print!("{}", done(&name, &ended));
            }
            Ok(0)
        }
        Some(RestorePhase::Planned) => {
            if args.output == Format::Text {
                print!("{}", planned(&session.namespace, &name, &ended));
            }
            Ok(0)
        }
        _ => {
            let more = status.reachable.as_ref().map(reachable).unwrap_or_default();
            Err(failed(status.failure, &more))
        }
    }
}

/// Writes the object, and waits for its end, which is printed whole when it is wanted as JSON; nothing without waiting.
pub async fn follow(
    session: &Session,
    name: &str,
    spec: RestoreSpec,
    no_wait: bool,
    output: Format,
) -> Result<Option<Restore>> {
    let mut wish = Restore::new(name, spec);
    wish.metadata.namespace = Some(session.namespace.clone());
    let api = session.here::<Restore>();
    api.create(&PostParams::default(), &wish).await?;
    eprintln!("hsrestore/{name} created");
    if no_wait {
        return Ok(None);
    }
    let ended = until(api, name, look).await?;
    if output == Format::Json {
        println!("{}", serde_json::to_string_pretty(&ended)?);
    }
    Ok(Some(ended))
}

/// Why it ended badly, and what more is to be said of it.
pub fn failed(failure: Option<RestoreFailure>, more: &str) -> Error {
    let failure = failure.unwrap_or_default();
    let said = failure.message.or(failure.code);
    let said = said.unwrap_or_else(|| "it failed".to_owned());
    Error::Failed(format!("{said}{more}"), failure.hint)
}

fn spec(args: &RestoreArgs) -> Result<RestoreSpec> {
    let source = match &args.repository {
        None => RestoreSource {
            deployment_ref: Some(DeploymentRef { name: args.of.clone() }),
            repository: None,
        },
        Some(repository) => RestoreSource {
            deployment_ref: None,
            repository: Some(NameInRepository {
                reference: match repository.split_once('/') {
                    Some((namespace, name)) => RepositoryRef {
                        name: name.to_owned(),
                        namespace: Some(namespace.to_owned()),
                    },
                    None => RepositoryRef {
                        name: repository.clone(),
                        namespace: None,
                    },
                },
                name: args.of.clone(),
            }),
        },
    };
    let destination = match (&args.into_cluster, &args.into_claim) {
        (Some(cluster), _) => Destination {
            cloud_native_pg: Some(ClusterDestination {
                cluster: cluster.clone(),
                template: None,
            }),
            ..Destination::default()
        },
        // The shape of a claim has defaults of its own, which the definition knows.
        (None, Some(claim)) => Destination {
            persistent_volume_claim: Some(claim_of(claim)?),
            ..Destination::default()
        },
        (None, None) => Destination::default(),
    };
    let target = RecoveryTarget {
        time: args.to.clone(),
        lsn: args.to_lsn.clone(),
        name: args.to_name.clone(),
        immediate: args.to_end_of_backup.then_some(true),
        ..RecoveryTarget::default()
    };
    let mut spec: RestoreSpec = serde_json::from_value(serde_json::json!({
        "source": source,
        "destination": destination,
    }))?;
    spec.recovery_target = (target != RecoveryTarget::default()).then_some(target);
    spec.dry_run = args.dry_run;
    if let Some(backup) = &args.backup {
        spec.backup.clone_from(backup);
    }
    Ok(spec)
}

fn claim_of(name: &str) -> Result<ClaimDestination> {
    let mut claim: ClaimDestination = serde_json::from_value(serde_json::json!({"name": name}))?;
    claim.create = Some(NewClaim::default());
    Ok(claim)
}

fn look(restore: &Restore) -> Seen<Restore> {
    let status = restore.status.clone().unwrap_or_default();
    match status.phase {
        Some(
            RestorePhase::Planned
            | RestorePhase::Refused
            | RestorePhase::Completed
            | RestorePhase::Failed
            | RestorePhase::Cancelled,
        ) => Seen::Ended(restore.clone()),
        phase => {
            let progress = status.progress.unwrap_or_default();
            let figures = match (progress.done, progress.total) {
                (Some(done), Some(total)) => format!(
                    " {done} of {total}{}",
                    progress.rate.map_or_else(String::new, |rate| format!(", {rate}/s"))
                ),
                _ => String::new(),
            };
            let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
            let why = ready
                .filter(|ready| !ready.message.is_empty())
                .map_or_else(String::new, |ready| format!(" ({})", ready.message));
            Seen::Going(format!("{}{figures}{why}", dash(phase)))
        }
    }
}

/// With all that the object says of a second: a moment that is written down shorter lies before the first one.
fn reachable(window: &Reachable) -> String {
    let moment = |time: Option<&MicroTime>| dash(time.map(|time| time.0));
    format!(
        "; what can be reached: {} to {}",
        moment(window.from.as_ref()),
        moment(window.to.as_ref())
    )
}

fn done(name: &str, restore: &Restore) -> String {
    let status = restore.status.clone().unwrap_or_default();
    let recovered = status.recovered.unwrap_or_default();
    let made: Vec<String> = status
        .created
        .iter()
        .map(|object| format!("{}/{}", object.kind, object.name))
        .collect();
    format!(
        "{name}: recovered to {} (LSN {}, timeline {}); made {}\n",
        dash(recovered.time.map(|time| time.0)),
        dash(recovered.lsn),
        dash(recovered.timeline),
        if made.is_empty() {
            "nothing".to_owned()
        } else {
            made.join(", ")
        },
    )
}

fn planned(namespace: &str, name: &str, restore: &Restore) -> String {
    let status = restore.status.clone().unwrap_or_default();
    let (target, plan) = (status.target.unwrap_or_default(), status.plan.unwrap_or_default());
    let mut out = format!(
        "{name}: to {} from backup {}, timeline {}: {} and at most {} of WAL\n",
        dash(target.moment),
        dash(target.backup_id),
        dash(target.timeline),
        dash(plan.bytes),
        dash(plan.wal),
    );
    for warning in plan.warnings {
        out.push_str(&format!("  note: {warning}\n"));
    }
    out.push_str(&format!(
        "run exactly this:  kubectl -n {namespace} patch hsrestore {name} --type merge -p '{{\"spec\":{{\"dryRun\":false}}}}'\n"
    ));
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;
    use crate::args::{Args, Command};
    use clap::Parser as _;
    use serde_json::{Value, json};

    fn written(line: &str) -> Value {
        let words = ["kubectl-hardstorage", "restore"].into_iter().chain(line.split(' '));
        let Command::Restore(args) = Args::try_parse_from(words).unwrap().command else {
            return Value::Null;
        };
        serde_json::to_value(spec(&args).unwrap()).unwrap()
    }

    #[test]
    fn what_is_typed_is_what_is_written() {
        let into_cluster = written("shop --to 2026-11-22T08:15:00Z --into-cluster shop-0815");
        assert_eq!(into_cluster["source"], json!({"deploymentRef": {"name": "shop"}}));
        assert_eq!(into_cluster["recoveryTarget"], json!({"time": "2026-11-22T08:15:00Z"}));
        assert_eq!(
            into_cluster["destination"],
            json!({"cloudNativePG": {"cluster": "shop-0815"}})
        );
        let into_claim = written("team.shop --repository vault/main --into-claim pg --dry-run");
        assert_eq!(
            into_claim["source"],
            json!({"repository": {"ref": {"name": "main", "namespace": "vault"}, "name": "team.shop"}})
        );
        assert_eq!(into_claim["destination"]["persistentVolumeClaim"]["create"], json!({}));
        assert_eq!(into_claim["dryRun"], true);
        assert!(into_claim.get("recoveryTarget").is_none());
    }

    #[test]
    fn what_can_be_reached_is_told_to_the_microsecond() {
        let window: Reachable =
            serde_json::from_value(json!({"from": "2026-11-22T08:15:00.140396Z", "to": "2026-11-22T08:16:00.000000Z"}))
                .unwrap();
        assert_eq!(
            reachable(&window),
            "; what can be reached: 2026-11-22T08:15:00.140396Z to 2026-11-22T08:16:00Z"
        );
    }

    #[test]
    fn one_place_and_one_moment() {
        for line in [
            "shop",
            "shop --into-cluster a --into-claim b",
            "shop --into-cluster a --to now --to-lsn 0/1",
        ] {
            let words = ["kubectl-hardstorage", "restore"].into_iter().chain(line.split(' '));
            assert!(Args::try_parse_from(words).is_err(), "{line}");
        }
    }
}
