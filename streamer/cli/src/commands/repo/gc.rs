//! `repo gc`: space comes back.

use hardstorage_report::{ByteSize, DeploymentName, Result, code};
use hardstorage_repository::{CollectOptions, Collection, Leftovers, Mode};
use serde::Serialize;

use crate::app::App;
use crate::args::GcArgs;
use crate::commands::collection;
use crate::printer::Report;

/// What came back, or would.
#[derive(Debug, Serialize)]
pub(super) struct GcResult {
    url: String,
    dry_run: bool,
    freed_bytes: u64,
    /// Packs that go once what waits has gone.
    later_bytes: u64,
    deployments: Vec<Collection>,
    /// Of the whole repository, whichever deployments were collected.
    leftovers: Leftovers,
}

/// The exit code: what was left alone needs a person.
pub(super) fn exit(result: &GcResult) -> u8 {
    if result.deployments.iter().all(|done| done.problems.is_empty()) {
        0
    } else {
        code::repository::OBJECT_CORRUPT.info().exit
    }
}

impl Report for GcResult {
    fn text(&self) -> String {
        let mut out = if self.dry_run {
            "Collection plan (dry-run — nothing was removed; --apply does it)\n".to_owned()
        } else {
            "Collection applied\n".to_owned()
        };
        for done in &self.deployments {
            out.push_str(&collection::text(done));
        }
        out.push_str(&collection::leftovers_text(&self.leftovers));
        let word = if self.dry_run { "would come back" } else { "came back" };
        out.push_str(&format!(
            "{} {word}; {} more once nothing waits any more\n",
            ByteSize(self.freed_bytes),
            ByteSize(self.later_bytes)
        ));
        out
    }
}

pub(super) async fn gc(app: &App, url: &str, args: &GcArgs) -> Result<GcResult> {
    let mode = if args.apply { Mode::Write } else { Mode::Read };
    let repository = app.repository(url, mode).await?;
    let names = match &args.deployment {
        Some(name) => vec![name.clone()],
        None => repository.deployments().await?,
    };
    let mut deployments = Vec::with_capacity(names.len());
    for name in names {
        let options = options(app, args, Some(&name));
        let deployment = repository.deployment(&name).await?;
        let done = collection::run(app, &deployment, &options).await?;
        deployments.push(done);
    }
    let leftovers = collection::sweep(app, &repository, &options(app, args, None)).await;
    Ok(GcResult {
        url: url.to_owned(),
        dry_run: !args.apply,
        freed_bytes: deployments.iter().map(Collection::freed_bytes).sum::<u64>() + leftovers.found.bytes,
        later_bytes: deployments.iter().map(|done| done.packs_later.bytes).sum(),
        deployments,
        leftovers,
    })
}

/// Of a deployment, or of the whole repository.
fn options(app: &App, args: &GcArgs, name: Option<&DeploymentName>) -> CollectOptions {
    CollectOptions {
        apply: args.apply,
        grace: args.grace,
        reader_grace: args.reader_grace,
        keep_wal: args.keep_wal.or(name.and_then(|name| app.keep_wal(name))),
        exclusive: args.exclusive,
        run_id: args.run.run_id.clone(),
        ..CollectOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hardstorage_repository::wal::Expired;
    use hardstorage_repository::{Amount, Waits};

    use super::*;
    use crate::commands::samples::{HELD, NEW, OLD};
    use crate::printer::shown;

    fn result(dry_run: bool) -> GcResult {
        let amount = |objects, mib: u64| Amount {
            objects,
            bytes: mib << 20,
        };
        let expired = Expired {
            segments: amount(40, 200),
            tails: amount(3, 1),
            ..Expired::default()
        };
        let done = Collection {
            deployment: "db1".parse().unwrap(),
            purged: vec![OLD.parse().unwrap()],
            waiting: BTreeMap::from([
                (OLD.parse().unwrap(), Waits::Readers),
                (HELD.parse().unwrap(), Waits::Held),
            ]),
            released: vec!["db1.full.20261001T210000Z.0001".parse().unwrap()],
            voided: vec!["db1.full.20261002T210000Z.0002".parse().unwrap()],
            packs: amount(12, 700),
            packs_later: amount(3, 150),
            wal: BTreeMap::from([("6a5d000000000001-0001".to_owned(), expired)]),
            small: 9,
            problems: Vec::new(),
        };
        GcResult {
            url: "file:///srv/backup".to_owned(),
            dry_run,
            freed_bytes: done.freed_bytes() + (64 << 20),
            later_bytes: done.packs_later.bytes,
            deployments: vec![done],
            leftovers: Leftovers {
                found: amount(2, 64),
                note: None,
            },
        }
    }

    #[test]
    fn a_plan_and_what_was_done() {
        let plan = shown("repo gc", &result(true));
        let mut done = result(false);
        assert_eq!(exit(&done), 0);
        let problem = format!("the manifest of backup {NEW} cannot be read");
        done.deployments[0].problems.push(problem);
        let refused = "list unfinished uploads: the store answered 501 NotImplemented";
        done.leftovers = Leftovers {
            note: Some(refused.to_owned()),
            ..Leftovers::default()
        };
        done.freed_bytes -= 64 << 20;
        assert_eq!(exit(&done), 9);
        insta::assert_snapshot!([plan, shown("repo gc", &done)].join("\n"));
    }
}
