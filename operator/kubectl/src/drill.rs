//! `drill`: a Restore object whose copy is asked and thrown away, and what it has proven.

use hardstorage_crds::{DrillDestination, Restore, RestorePhase, RestoreSpec};
use jiff::Timestamp;
use serde_json::json;

use crate::args::{DrillArgs, Format};
use crate::connect::Session;
use crate::error::Result;
use crate::output::{dash, stamped};
use crate::restore::{failed, follow};

/// Writes the object, and waits for its end.
pub async fn run(session: &Session, args: &DrillArgs) -> Result<u8> {
    let about = format!("{}-drill", args.deployment);
    let name = args.name.clone().unwrap_or_else(|| stamped(&about, Timestamp::now()));
    let Some(ended) = follow(session, &name, spec(args)?, args.no_wait, args.output).await? else {
        return Ok(0);
    };
    let status = ended.status.clone().unwrap_or_default();
    if status.phase == Some(RestorePhase::Completed) {
        if args.output == Format::Text {
            print!("{}", passed(&name, &ended));
        }
        return Ok(0);
    }
    let kept = status.drill.and_then(|drill| drill.kept_until);
    let kept = kept.map(|until| format!("; the claim {name}-drill is kept until {}", until.0));
    Err(failed(status.failure, &kept.unwrap_or_default()))
}

fn spec(args: &DrillArgs) -> Result<RestoreSpec> {
    let checks: Vec<_> = args
        .check
        .iter()
        .map(|(name, sql)| json!({"name": name, "database": args.database, "sql": sql, "expect": "t"}))
        .collect();
    let mut drill = json!({"checks": checks});
    if let Some(keep) = &args.keep_on_failure {
        drill["keepOnFailure"] = json!(keep);
    }
    let drill: DrillDestination = serde_json::from_value(drill)?;
    let mut spec = json!({
        "source": {"deploymentRef": {"name": args.deployment}},
        "destination": {"drill": drill},
    });
    if let Some(time) = &args.at {
        spec["recoveryTarget"] = json!({"time": time});
    }
    if let Some(image) = &args.postgres_image {
        spec["postgresImage"] = json!(image);
    }
    Ok(serde_json::from_value(spec)?)
}

fn passed(name: &str, restore: &Restore) -> String {
    let status = restore.status.clone().unwrap_or_default();
    let (drill, target) = (status.drill.unwrap_or_default(), status.target.unwrap_or_default());
    let mut out = format!(
        "{name}: passed in {}: backup {} to {}, {} checks, {} indexes read\n",
        dash(drill.duration),
        dash(target.backup_id),
        dash(target.moment),
        drill.checks.len(),
        dash(drill.indexes_checked),
    );
    for note in drill.notes {
        out.push_str(&format!("  note: {note}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;
    use crate::args::{Args, Command};
    use clap::Parser as _;
    use serde_json::Value;

    fn typed(words: &[&str]) -> std::result::Result<Value, String> {
        let words = ["kubectl-hardstorage", "drill"].iter().chain(words);
        let Command::Drill(args) = Args::try_parse_from(words).map_err(|error| error.to_string())?.command else {
            return Err("no drill".to_owned());
        };
        Ok(serde_json::to_value(spec(&args).unwrap()).unwrap())
    }

    #[test]
    fn what_is_typed_is_what_is_written() {
        let written = typed(&[
            "shop",
            "--at",
            "5 minutes ago",
            "--check",
            "rows=select count(*)>0 from t where a = 'b=c'",
            "--keep-on-failure",
            "30m",
        ])
        .unwrap();
        assert_eq!(written["source"], json!({"deploymentRef": {"name": "shop"}}));
        assert_eq!(written["recoveryTarget"], json!({"time": "5 minutes ago"}));
        let check = &written["destination"]["drill"]["checks"][0];
        assert_eq!(check["sql"], "select count(*)>0 from t where a = 'b=c'");
        assert_eq!((&check["database"], &check["expect"]), (&json!("app"), &json!("t")));
        assert_eq!(written["destination"]["drill"]["keepOnFailure"], "30m");
        let short = typed(&["shop"]).unwrap();
        assert_eq!(short["destination"]["drill"]["keepOnFailure"], "1h");
        assert!(short.get("recoveryTarget").is_none() && short.get("postgresImage").is_none());
    }

    #[test]
    fn a_check_has_a_name_and_a_question() {
        for wrong in ["rows", "=select 1", "rows= "] {
            assert!(
                typed(&["shop", "--check", wrong]).unwrap_err().contains("NAME=SQL"),
                "{wrong}"
            );
        }
    }
}
