//! `status`: one line for each protected cluster, and the clusters that nobody protects.

use hardstorage_crds::{BackupSchedule, ProtectedDeployment};
use jiff::Timestamp;
use kube::core::DeserializeGuard;
use serde_json::json;

use crate::args::{Format, StatusArgs};
use crate::connect::Session;
use crate::error::Result;
use crate::look;
use crate::output::{age, dash, moment, table};
use crate::protection::{Protection, judge};
use crate::unprotected;

/// Prints it.
pub async fn run(session: &Session, args: &StatusArgs) -> Result<u8> {
    let deployments = look::all(session.looked_at::<DeserializeGuard<ProtectedDeployment>>()).await?;
    let schedules = look::all(session.looked_at::<DeserializeGuard<BackupSchedule>>()).await?;
    let now = Timestamp::now();
    if args.unprotected {
        let clusters = unprotected::clusters(session, &deployments.objects).await?;
        match args.output {
            Format::Json => println!("{:#}", json!({"unprotected": clusters})),
            Format::Text => print!("{}", unprotected::text(&clusters)),
        }
        return Ok(0);
    }
    let all: Vec<Protection> = deployments
        .objects
        .iter()
        .map(|deployment| judge(deployment, &schedules.objects, now))
        .collect();
    match args.output {
        Format::Json => println!("{:#}", json!({"deployments": all, "malformed": deployments.malformed})),
        Format::Text => {
            print!("{}", text(&all, now));
            for (name, error) in &deployments.malformed {
                println!("{name} cannot be read: {error}");
            }
        }
    }
    Ok(0)
}

fn text(all: &[Protection], now: Timestamp) -> String {
    if all.is_empty() {
        return "no Deployment of hardstorage.dev is here; -A looks everywhere\n".to_owned();
    }
    let head = [
        "NAMESPACE",
        "NAME",
        "SOURCE",
        "PROTECTED",
        "PHASE",
        "LAG(s)",
        "RECOVERABLE-FROM",
        "RECOVERABLE-TO",
        "LAST-BACKUP",
        "NEXT",
        "LAST-DRILL",
        "OBSERVED",
    ];
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|one| {
            let reason = one.protected.reason.as_deref();
            vec![
                one.namespace.clone(),
                one.name.clone(),
                one.source.clone(),
                reason.map_or_else(
                    || one.protected.word.to_owned(),
                    |reason| format!("{} ({reason})", one.protected.word),
                ),
                dash(one.phase.as_ref()),
                dash(one.lag_seconds),
                dash(one.recoverable_from.map(moment)),
                dash(one.recoverable_to.map(moment)),
                dash(one.last_backup.map(|time| age(now, time) + " ago")),
                dash(one.next_backup.map(|time| format!("in {}", age(time, now)))),
                dash(one.last_drill.map(|time| {
                    let result = one.last_drill_result.as_deref().unwrap_or("-");
                    format!("{result} {} ago", age(now, time))
                })),
                dash(one.observed.map(|time| age(now, time) + " ago")),
            ]
        })
        .collect();
    let mut out = table(&head, &rows);
    let protected = all.iter().filter(|one| one.protected.word == "Yes").count();
    out.push_str(&format!("\n{protected} of {} are protected\n", all.len()));
    for one in all.iter().filter(|one| one.protected.word != "Yes") {
        if let Some(message) = &one.protected.message {
            out.push_str(&format!("  {}/{}: {message}\n", one.namespace, one.name));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;
    use crate::protection::Answer;

    #[test]
    fn one_screen_tells_who_is_protected() {
        let at = |second: i64| Timestamp::from_second(1_767_225_600 + second).unwrap();
        let one = |name: &str, protected: Answer, from: Option<Timestamp>| Protection {
            namespace: "team".to_owned(),
            name: name.to_owned(),
            source: format!("cnpg/{name}"),
            protected,
            phase: Some("Streaming".to_owned()),
            lag_seconds: Some(1),
            recoverable_from: from,
            recoverable_to: from.map(|_| at(90)),
            last_backup: from,
            next_backup: Some(at(4000)),
            last_drill: from,
            last_drill_result: from.map(|_| "Passed".to_owned()),
            observed: Some(at(95)),
        };
        let yes = Answer {
            word: "Yes",
            reason: None,
            message: None,
        };
        let no = Answer {
            word: "No",
            reason: Some("NoBackup".to_owned()),
            message: Some("take one".to_owned()),
        };
        insta::assert_snapshot!(text(&[one("shop", yes, Some(at(0))), one("orders", no, None)], at(100)));
    }
}
