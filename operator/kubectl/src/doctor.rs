//! `doctor`: everything that our objects complain about, each line with what to do.

mod findings;

use hardstorage_crds::{BackupSchedule, ProtectedDeployment, Repository, Restore};
use jiff::Timestamp;
use kube::core::DeserializeGuard;
use serde_json::json;

use crate::args::{DoctorArgs, Format};
use crate::connect::Session;
use crate::error::Result;
use crate::look;
use crate::unprotected;
use findings::{Finding, Level};

/// The exit code of findings, where it is asked for.
const ISSUES: u8 = 10;

/// Prints them.
pub async fn run(session: &Session, args: &DoctorArgs) -> Result<u8> {
    let now = Timestamp::now();
    let repositories = look::all(session.looked_at::<DeserializeGuard<Repository>>()).await?;
    let deployments = look::all(session.looked_at::<DeserializeGuard<ProtectedDeployment>>()).await?;
    let schedules = look::all(session.looked_at::<DeserializeGuard<BackupSchedule>>()).await?;
    let restores = look::all(session.looked_at::<DeserializeGuard<Restore>>()).await?;
    let mut all = findings::malformed("Repository", &repositories.malformed);
    all.extend(findings::malformed("Deployment", &deployments.malformed));
    all.extend(findings::malformed("BackupSchedule", &schedules.malformed));
    all.extend(repositories.objects.iter().flat_map(findings::repository));
    for deployment in &deployments.objects {
        all.extend(findings::deployment(deployment, &schedules.objects, now));
    }
    all.extend(
        schedules
            .objects
            .iter()
            .flat_map(|schedule| findings::schedule(schedule, now)),
    );
    all.extend(findings::malformed("Restore", &restores.malformed));
    all.extend(restores.objects.iter().flat_map(findings::restore));
    let clusters = unprotected::clusters(session, &deployments.objects).await?;
    all.extend(clusters.iter().map(findings::unprotected));
    all.sort_by_key(|finding| finding.level);
    match args.output {
        Format::Json => println!("{:#}", json!({"findings": all})),
        Format::Text => print!("{}", text(&all)),
    }
    let bad = all.iter().any(|finding| finding.level != Level::Note);
    Ok(if bad && args.exit_on_issues { ISSUES } else { 0 })
}

fn text(all: &[Finding]) -> String {
    if all.is_empty() {
        return "nothing to do\n".to_owned();
    }
    let mut out = String::new();
    for finding in all {
        out.push_str(&format!(
            "{} {} {}: {}\n    fix: {}\n",
            finding.level.sign(),
            finding.kind,
            finding.name,
            finding.message,
            finding.fix
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_a_fix() {
        let finding = Finding {
            level: Level::Bad,
            kind: "Deployment",
            name: "team/shop".to_owned(),
            message: "it does not stream".to_owned(),
            fix: "start the cluster".to_owned(),
        };
        assert_eq!(
            text(&[finding]),
            "✗ Deployment team/shop: it does not stream\n    fix: start the cluster\n"
        );
        assert_eq!(text(&[]), "nothing to do\n");
    }
}
