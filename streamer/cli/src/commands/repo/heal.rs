//! `repo heal`: what is damaged or missing comes back from a copy.

use hardstorage_report::{ByteSize, DeploymentName, Error, Result, code};
use hardstorage_repository::{HealOptions, HealReport, Healed, Mode, NotHealed};
use serde::Serialize;

use crate::app::App;
use crate::args::HealArgs;
use crate::printer::Report;

/// So many names are shown of each kind; the JSON has all.
const SHOWN: usize = 20;

/// What came back, or would.
#[derive(Debug, Serialize)]
pub(super) struct HealResult {
    url: String,
    from: String,
    ok: bool,
    dry_run: bool,
    deployments: Vec<HealReport>,
}

/// The exit code: two truths before damage that stays.
pub(super) fn exit(result: &HealResult) -> u8 {
    let any = |is: fn(&HealReport) -> bool| result.deployments.iter().any(is);
    if any(|report| !report.differing.is_empty()) {
        code::repository::COPY_DIFFERS.info().exit
    } else if any(|report| !report.ok) {
        code::repository::OBJECT_CORRUPT.info().exit
    } else {
        0
    }
}

impl Report for HealResult {
    fn text(&self) -> String {
        let mut out = if self.dry_run {
            format!(
                "Healing from {} (dry-run — nothing was written; --apply does it)\n",
                self.from
            )
        } else {
            format!("Healed from {}\n", self.from)
        };
        for report in &self.deployments {
            out.push_str(&one(report, self.dry_run));
        }
        out
    }
}

fn one(report: &HealReport, dry_run: bool) -> String {
    let bytes: u64 = report.healed.iter().map(|healed| healed.bytes).sum();
    let word = if dry_run { "can come back" } else { "came back" };
    let mut out = format!(
        "{} {}: {} object(s), {}, {word}; {} stay damaged; {} read here and whole\n",
        if report.ok { "✓" } else { "✗" },
        report.deployment,
        report.healed.len(),
        ByteSize(bytes),
        report.lost.len() + report.differing.len(),
        report.whole
    );
    list(&mut out, "+", &report.healed, |Healed { object, reason, .. }| {
        format!("{object}: {reason}")
    });
    let told = |NotHealed {
                    object,
                    reason,
                    because,
                }: &NotHealed| format!("{object}: {reason}; {because}");
    list(&mut out, "✗", &report.lost, told);
    list(&mut out, "✗ two truths:", &report.differing, told);
    list(&mut out, "! in the copy:", &report.damaged_in_copy, told);
    if report.records_removed > 0 {
        out.push_str(&format!(
            "  {} record(s) of damage hold no more\n",
            report.records_removed
        ));
    }
    if let Some(error) = &report.not_recorded {
        out.push_str(&format!("  the audit chain does not tell of it: {error}\n"));
    }
    if !report.differing.is_empty() {
        out.push_str(&format!("  hint: {}\n", code::repository::COPY_DIFFERS.info().hint));
    } else if !report.lost.is_empty() {
        out.push_str("  hint: try another copy; a new backup stores damaged pages anew\n");
    }
    out
}

fn list<T>(out: &mut String, mark: &str, all: &[T], line: impl Fn(&T) -> String) {
    for one in all.iter().take(SHOWN) {
        out.push_str(&format!("  {mark} {}\n", line(one)));
    }
    if all.len() > SHOWN {
        out.push_str(&format!("  {mark} and {} more\n", all.len() - SHOWN));
    }
}

pub(super) async fn heal(app: &App, url: &str, args: &HealArgs) -> Result<HealResult> {
    let mode = if args.apply { Mode::Write } else { Mode::Read };
    let repository = app.repository(url, mode).await?;
    let copy = app.store(&args.from, false, true).await?;
    if copy.url() == repository.store().url() {
        let message = format!("{} is this repository itself", args.from);
        return Err(Error::new(code::usage::INVALID, message).hint("name the place that it was copied to with --from"));
    }
    let names: Vec<DeploymentName> = match &args.deployment {
        Some(name) => vec![name.clone()],
        None => repository.deployments().await?,
    };
    let stop = App::stop()?;
    let options = HealOptions {
        apply: args.apply,
        everything: args.all,
        run_id: args.run.run_id.clone(),
    };
    let mut deployments = Vec::with_capacity(names.len());
    for name in names {
        let deployment = repository.deployment(&name).await?;
        deployments.push(hardstorage_repository::heal(&deployment, &copy, &options, &stop.drain).await?);
    }
    Ok(HealResult {
        url: url.to_owned(),
        from: args.from.clone(),
        ok: deployments.iter().all(|report| report.ok),
        dry_run: !args.apply,
        deployments,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::shown;

    fn not_healed(object: &str, reason: &str, because: &str) -> NotHealed {
        NotHealed {
            object: object.to_owned(),
            reason: reason.to_owned(),
            because: because.to_owned(),
        }
    }

    #[test]
    fn a_plan_a_success_and_two_truths() {
        let healed = Healed {
            object: "packs/db1/aa/00000000".to_owned(),
            reason: "1 of its 9 frames cannot be read".to_owned(),
            bytes: 5 << 20,
        };
        let report = HealReport {
            deployment: "db1".parse().unwrap(),
            ok: true,
            dry_run: true,
            whole: 3,
            healed: vec![healed],
            lost: Vec::new(),
            differing: Vec::new(),
            damaged_in_copy: Vec::new(),
            records_removed: 0,
            not_recorded: None,
        };
        let result = |report: HealReport| HealResult {
            url: "file:///srv/backup".to_owned(),
            from: "file:///mnt/copy".to_owned(),
            ok: report.ok,
            dry_run: report.dry_run,
            deployments: vec![report],
        };
        let plan = result(report.clone());
        let mut done = report.clone();
        (done.dry_run, done.records_removed) = (false, 1);
        let done = result(done);
        assert_eq!((exit(&plan), exit(&done)), (0, 0));
        let mut bad = report;
        (bad.dry_run, bad.ok) = (false, false);
        bad.lost = vec![not_healed(
            "keys/db1/1/0001.json",
            "its MAC does not match",
            "the copy does not have it",
        )];
        bad.not_recorded = Some("access denied".to_owned());
        let lost = result(bad.clone());
        assert_eq!(exit(&lost), 9);
        bad.differing = vec![not_healed(
            "audit/db1/202611/0000000000000002.json",
            "it is whole",
            "nothing decides",
        )];
        bad.damaged_in_copy = vec![not_healed("packs/db1/aa/00000001", "it is too short", "heal the copy")];
        let differing = result(bad);
        assert_eq!(exit(&differing), 7);
        let all = [plan, done, lost, differing].map(|result| shown("repo heal", &result));
        insta::assert_snapshot!(all.join("\n"));
    }
}
