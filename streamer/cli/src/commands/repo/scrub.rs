//! `repo scrub`: what is stored is read, a part each day.

use std::num::NonZeroU64;

use hardstorage_report::{ByteSize, DeploymentName, Error, ErrorReport, Kind, Result, code};
use hardstorage_repository::{
    Access, Mode, Probe, Repository, ScrubOptions, ScrubProblem, ScrubProgress, ScrubReport, ScrubTarget, Surroundings,
    scrub as read_again,
};
use hardstorage_storage::DynStore;
use serde::Serialize;
use serde_json::{Value, json};

use crate::app::{App, absolute};
use crate::args::ScrubArgs;
use crate::printer::Report;

/// A deployment that cannot be opened.
#[derive(Debug, Serialize)]
struct Closed {
    deployment: String,
    #[serde(flatten)]
    error: ErrorReport,
}

/// What was read, and what of it is damaged.
#[derive(Debug, Serialize)]
pub(super) struct ScrubResult {
    url: String,
    ok: bool,
    keyless: bool,
    objects: u64,
    bytes: u64,
    deployments: Vec<ScrubReport>,
    /// Deployments whose keys are damaged.
    closed: Vec<Closed>,
}

/// The exit code: whatever is damaged is worth a person's look.
pub(super) fn exit(result: &ScrubResult) -> u8 {
    if result.ok {
        0
    } else {
        code::repository::OBJECT_CORRUPT.info().exit
    }
}

impl Report for ScrubResult {
    fn text(&self) -> String {
        let sign = if self.ok { "✓" } else { "✗" };
        let (url, objects, bytes) = (&self.url, self.objects, ByteSize(self.bytes));
        let mut out = format!("{sign} {url}: {objects} object(s) read, {bytes}\n");
        for report in &self.deployments {
            one(report, &mut out);
        }
        for closed in &self.closed {
            let (name, error) = (&closed.deployment, &closed.error);
            out.push_str(&format!(
                "✗ {name} cannot be opened: {} {}\n  hint: {}\n",
                error.code, error.message, error.hint
            ));
        }
        out
    }

    fn summary(&self) -> Value {
        let problems: usize = self.deployments.iter().map(|report| report.problems.len()).sum();
        json!({
            "url": self.url,
            "ok": self.ok,
            "objects": self.objects,
            "bytes": self.bytes,
            "problems": problems + self.closed.len(),
        })
    }
}

fn one(report: &ScrubReport, out: &mut String) {
    let percent = |part: f64| format!("{:.1} %", part * 100.0);
    let began = report.began_at.map(|at| format!(" of the round that began at {at}"));
    out.push_str(&format!(
        "{}: {} read{}, {} due",
        report.deployment,
        percent(report.done),
        began.unwrap_or_default(),
        percent(report.due)
    ));
    out.push_str(match (report.interrupted, report.limited) {
        (true, _) => "; it was stopped, the next run goes on here\n",
        (_, true) => "; the limit was reached, the next run goes on here\n",
        _ => "\n",
    });
    for (what, count) in &report.unchecked {
        out.push_str(&format!("! not checked: {what} ({count} objects)\n"));
    }
    for name in &report.strange {
        out.push_str(&format!("! {name} is not of this format: it was not read\n"));
    }
    if let Some(why) = &report.not_recorded {
        out.push_str(&format!(
            "! what is bad could not be recorded, so the next backup does not know of it: {why}\n"
        ));
    }
    for problem in &report.problems {
        told(problem, out);
    }
    for (backup, what) in &report.hurt {
        out.push_str(&format!("✗ {backup} cannot be restored whole:\n"));
        for part in what {
            out.push_str(&format!("    {part}\n"));
        }
    }
    for hint in hints(report) {
        out.push_str(&format!("  hint: {hint}\n"));
    }
}

fn told(problem: &ScrubProblem, out: &mut String) {
    let word = if problem.known { "! known:" } else { "✗" };
    out.push_str(&format!("{word} {}: {}\n", problem.object, problem.reason));
    if !problem.frames.is_empty() {
        let frames: Vec<String> = problem.frames.iter().map(u32::to_string).collect();
        out.push_str(&format!("    bad frames: {}\n", frames.join(" ")));
    }
    if let (Some(what), Some(timeline)) = (&problem.wal, problem.timeline) {
        let range = problem.from.zip(problem.to);
        let range = range.map(|(from, to)| format!(", {from} to {to}"));
        out.push_str(&format!(
            "    WAL {what}, timeline {timeline}{}\n",
            range.unwrap_or_default()
        ));
    }
}

/// What to do, once for each kind of damage.
fn hints(report: &ScrubReport) -> Vec<&'static str> {
    let any = |is: fn(&ScrubProblem) -> bool| report.problems.iter().any(|problem| !problem.known && is(problem));
    let mut hints = Vec::new();
    // What is known is told until a backup is there that does not need it.
    let unhealed = report.newest_is_whole == Some(false) && !report.hurt.is_empty();
    if any(|problem| !problem.frames.is_empty()) || unhealed && report.problems.iter().all(|problem| problem.known) {
        hints.push(
            "take a backup now: it stores the pages of bad frames anew. The backups that are named stay hurt: restore \
             from others",
        );
    }
    if any(|problem| problem.frames_unknown) {
        hints.push("`pg_hardstorage verify` tells what a pack hurts whose frames cannot be found, and records it");
    }
    if any(ScrubProblem::is_replayed_wal) {
        hints.push(
            "take a backup now: what lies behind it does not need the damaged WAL. No moment from the first damaged \
             position to the end of that backup can be reached; a copy of the object from elsewhere brings them back",
        );
    }
    if any(|problem| problem.frames.is_empty() && !problem.frames_unknown && problem.wal.is_none()) {
        hints.push("put a damaged object back from a copy of the repository; nothing is removed because of it");
    }
    hints
}

pub(super) async fn scrub(app: &App, url: &str, args: &ScrubArgs) -> Result<ScrubResult> {
    if args.keyless && args.state.is_none() && !args.all {
        let message = "without a key nothing can be remembered in the repository";
        return Err(
            Error::new(code::usage::INVALID, message).hint("give --state FILE, or --all to read everything now")
        );
    }
    let stop = App::stop()?;
    let read_only = args.keyless;
    let store = app.slow_store(url, NonZeroU64::new(args.max_rate.0), read_only).await?;
    let opened = Opened::new(app, store, args).await?;
    let mut result = ScrubResult {
        url: url.to_owned(),
        ok: true,
        keyless: args.keyless,
        objects: 0,
        bytes: 0,
        deployments: Vec::new(),
        closed: Vec::new(),
    };
    let progress = match &args.state {
        Some(path) => ScrubProgress::File {
            path: absolute(path)?,
            repository_id: opened.repository_id,
        },
        None if args.keyless => ScrubProgress::Nowhere,
        None => ScrubProgress::Repository,
    };
    let options = ScrubOptions {
        within: args.within,
        at_once: args.all,
        limit: args.limit.map(|limit| limit.0),
        progress,
        surroundings: Surroundings::default(),
    };
    for name in opened.names(args).await? {
        let target = match opened.target(&name).await {
            Ok(target) => target,
            Err(error) if error.kind() == Kind::Verify => {
                result.closed.push(Closed {
                    deployment: name.to_string(),
                    error: (&error).into(),
                });
                continue;
            }
            Err(error) => return Err(error),
        };
        let report = read_again(&target, &options, &stop.drain).await?;
        result.objects += report.objects;
        result.bytes += report.bytes;
        let interrupted = report.interrupted;
        result.deployments.push(report);
        if interrupted {
            break;
        }
    }
    result.ok = result.closed.is_empty() && result.deployments.iter().all(|report| report.ok);
    Ok(result)
}

/// The repository, with its key or without.
struct Opened {
    store: DynStore,
    repository: Option<Repository>,
    repository_id: [u8; 16],
    claimed: Vec<String>,
}

impl Opened {
    async fn new(app: &App, store: DynStore, args: &ScrubArgs) -> Result<Opened> {
        if args.keyless {
            return match Repository::probe(&store).await? {
                Probe::Present(facts) => Ok(Opened {
                    store,
                    repository: None,
                    repository_id: facts.descriptor.repository_id,
                    claimed: facts.deployments,
                }),
                _ => Err(Error::new(
                    code::repository::MISSING,
                    format!("there is no repository at {}", store.url()),
                )),
            };
        }
        let access = Access::new(app.keyring().kek()?, Mode::Read);
        let repository = Repository::open(store.clone(), access).await?;
        Ok(Opened {
            store,
            repository_id: repository.descriptor().repository_id,
            repository: Some(repository),
            claimed: Vec::new(),
        })
    }

    async fn names(&self, args: &ScrubArgs) -> Result<Vec<DeploymentName>> {
        let all = match &self.repository {
            Some(repository) => repository.deployments().await?,
            None => self.claimed.iter().filter_map(|name| name.parse().ok()).collect(),
        };
        match &args.deployment {
            None => Ok(all),
            Some(name) if all.contains(name) => Ok(vec![name.clone()]),
            Some(name) => {
                let message = format!("the repository {} holds no deployment {name}", self.store.url());
                Err(Error::new(code::repository::DEPLOYMENT_MISSING, message))
            }
        }
    }

    async fn target(&self, name: &DeploymentName) -> Result<ScrubTarget> {
        let deployment = match &self.repository {
            Some(repository) => Some(repository.deployment(name).await?),
            None => None,
        };
        Ok(ScrubTarget {
            store: self.store.clone(),
            name: name.clone(),
            deployment,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::samples::{NEW, OLD};
    use crate::printer::shown;

    fn report(mut value: Value) -> ScrubReport {
        let whole = json!({
            "deployment": "db1", "ok": true, "keyless": false, "objects": 40, "bytes": 5 << 20, "vanished": 0,
            "began_at": "2026-11-22T03:17:00Z", "due": 0.25, "done": 0.25, "limited": false, "interrupted": false,
            "problems": [], "hurt": {}, "unchecked": {}, "strange": [],
        });
        let (Value::Object(value), Value::Object(mut all)) = (value.take(), whole) else {
            panic!("two objects");
        };
        all.extend(value);
        serde_json::from_value(Value::Object(all)).unwrap()
    }

    fn result(report: ScrubReport) -> ScrubResult {
        ScrubResult {
            url: "file:///srv/backup".to_owned(),
            ok: report.ok,
            keyless: report.keyless,
            objects: report.objects,
            bytes: report.bytes,
            deployments: vec![report],
            closed: Vec::new(),
        }
    }

    #[test]
    fn nothing_and_much() {
        let well = result(report(json!({"limited": true})));
        assert_eq!(exit(&well), 0);
        let keyless = result(report(json!({
            "keyless": true, "unchecked": {"signatures of manifests": 2}, "strange": ["packs/db1/x"],
        })));
        let known = result(report(json!({
            "problems": [{
                "object": "packs/db1/aa/00000000", "reason": "1 of its 9 frames cannot be read", "frames": [4],
                "recorded": 0, "known": true,
            }],
            "hurt": {OLD: ["base/5/16384"]}, "newest_is_whole": true,
        })));
        let mut bad = result(report(json!({
            "ok": false, "not_recorded": "access denied",
            "problems": [
                {
                    "object": "packs/db1/aa/00000000", "reason": "2 of its 9 frames cannot be read", "frames": [4, 7],
                    "recorded": 2, "known": false,
                },
                {
                    "object": "packs/db1/aa/00000001", "reason": "it is too short for a pack", "frames_unknown": true,
                    "recorded": 0, "known": false,
                },
                {
                    "object": "wal/db1/x/segments/00000001/00000000/000000010000000000000003",
                    "reason": "the hash of its stored bytes does not match", "recorded": 0, "known": false,
                    "timeline": 1, "from": "0/3000000", "to": "0/4000000", "wal": "segment", "replayed": true,
                },
                {"object": "keys/db1/1/0001.json", "reason": "its MAC does not match", "recorded": 0, "known": false},
            ],
            "hurt": {NEW: ["base/5/16384", "base/5/2619"]}, "newest_is_whole": false,
        })));
        let error = Error::new(
            code::repository::OBJECT_CORRUPT,
            "object keys/db2/1/0001.json: its MAC does not match",
        );
        bad.closed.push(Closed {
            deployment: "db2".to_owned(),
            error: (&error).into(),
        });
        assert_eq!(exit(&bad), 9);
        let all = [well, keyless, known, bad].map(|result| shown("repo scrub", &result));
        insta::assert_snapshot!(all.join("\n"));
    }
}
