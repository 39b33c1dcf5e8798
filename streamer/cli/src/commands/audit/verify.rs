//! `audit verify`: walk the chain, and compare it with what was kept elsewhere.

use std::collections::BTreeSet;

use hardstorage_report::{DeploymentName, Error, Result, code};
use hardstorage_repository::{
    Anchor, AnchorVerdict, AuditLog, BadRecord, Claim, Deployment, Mode, PaperAnchor, Repository,
};
use hardstorage_storage::DynStore;
use jiff::Timestamp;
use serde::Serialize;

use super::{chosen, file};
use crate::app::App;
use crate::args::AuditVerifyArgs;
use crate::printer::Report;

/// One chain.
#[derive(Debug, Serialize)]
struct Chain {
    deployment: DeploymentName,
    ok: bool,
    /// Records that can be believed, from the first on.
    events: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_bad: Option<BadRecord>,
    anchors: Vec<AnchorVerdict>,
}

/// The verdict.
#[derive(Debug, Serialize)]
pub(super) struct AuditVerifyResult {
    url: String,
    ok: bool,
    deployments: Vec<Chain>,
}

impl Report for AuditVerifyResult {
    fn text(&self) -> String {
        let mut out = String::new();
        for chain in &self.deployments {
            let name = &chain.deployment;
            match &chain.first_bad {
                Some(bad) => out.push_str(&format!(
                    "✗ {name}: record {} is the first bad one: {}\n  {} event(s) before it can be believed\n",
                    bad.sequence, bad.problem, chain.events
                )),
                None if chain.events == 0 => out.push_str(&format!("{name}: the audit chain is empty\n")),
                None => out.push_str(&format!(
                    "✓ {name}: {} event(s), each bound to the one before\n",
                    chain.events
                )),
            }
            for anchor in &chain.anchors {
                let at = anchor.at.map_or_else(String::new, |at| format!(" of {at}"));
                let (mark, word) = match anchor.holds {
                    Some(true) => ("✓", "holds"),
                    Some(false) => ("✗", "does not hold"),
                    None => ("-", "lies behind the first bad record"),
                };
                out.push_str(&format!(
                    "  {mark} anchor{at}, record {}, {}: {word}\n",
                    anchor.sequence, anchor.source
                ));
            }
            if chain.ok && chain.events > 0 && chain.anchors.iter().all(|anchor| anchor.within) {
                out.push_str(
                    "  no anchor from elsewhere was given: whether records were cut off at the end cannot be told\n",
                );
            }
        }
        if self.deployments.is_empty() {
            out.push_str("the repository holds no deployment\n");
        }
        out
    }

    fn failure(&self) -> Option<Error> {
        let (chain, bad) = self
            .deployments
            .iter()
            .find_map(|chain| Some((chain, chain.first_bad.as_ref()?)))?;
        let (name, sequence, problem) = (&chain.deployment, bad.sequence, &bad.problem);
        Some(Error::new(
            code::repository::AUDIT_BROKEN,
            format!("the audit chain of {name} is bad from record {sequence} on: {problem}"),
        ))
    }
}

/// The exit code of a verdict.
pub(super) fn exit(result: &AuditVerifyResult) -> u8 {
    result.failure().map_or(0, |error| error.exit_code())
}

/// What was kept elsewhere, before it is known of which deployment it is.
struct Kept {
    lines: Vec<(String, Anchor)>,
    typed: Vec<PaperAnchor>,
    others: Vec<(String, DynStore)>,
    /// What was given and speaks of none of the deployments so far.
    unused: BTreeSet<String>,
}

pub(super) async fn verify(app: &App, args: &AuditVerifyArgs) -> Result<AuditVerifyResult> {
    let mut kept = kept(app, args).await?;
    let url = app.repo_url(&args.repo, args.deployment.as_ref())?;
    let repository = app.repository(&url, Mode::Read).await?;
    let mut deployments = Vec::new();
    for name in chosen(&repository, args.deployment.as_ref()).await? {
        let deployment = repository.deployment(&name).await?;
        let claims = kept.claims(&deployment).await?;
        let verdict = AuditLog::of(&deployment).verify(&claims).await?;
        deployments.push(Chain {
            deployment: name,
            ok: verdict.first_bad.is_none(),
            events: verdict.good,
            head: verdict.hash.map(hex::encode),
            last_at: verdict.at,
            first_bad: verdict.first_bad,
            anchors: verdict.anchors,
        });
    }
    if let Some(unused) = kept.unused.first() {
        return Err(about_nothing(unused, &repository, args.deployment.as_ref()));
    }
    Ok(AuditVerifyResult {
        url,
        ok: deployments.iter().all(|chain| chain.ok),
        deployments,
    })
}

fn about_nothing(unused: &str, repository: &Repository, name: Option<&DeploymentName>) -> Error {
    let about = name.map_or_else(|| "any deployment".to_owned(), ToString::to_string);
    let id = hex::encode(repository.descriptor().repository_id);
    let message = format!("{unused} holds no anchor of {about} of the repository {id}");
    Error::new(code::repository::ANCHOR_MISSING, message)
}

async fn kept(app: &App, args: &AuditVerifyArgs) -> Result<Kept> {
    let mut kept = Kept {
        lines: Vec::new(),
        typed: Vec::new(),
        others: Vec::new(),
        unused: BTreeSet::new(),
    };
    for path in &args.anchor {
        let path = crate::app::absolute(path)?;
        kept.lines.extend(file::read(&path)?);
        kept.unused.insert(path.display().to_string());
    }
    for text in &args.anchor_text {
        kept.typed.push(PaperAnchor::parse(text)?);
        kept.unused.insert(TYPED.to_owned());
    }
    for url in &args.anchor_repo {
        kept.others.push((url.clone(), app.store(url, false, true).await?));
        kept.unused.insert(url.clone());
    }
    Ok(kept)
}

const TYPED: &str = "the typed anchor";

impl Kept {
    /// What speaks of this deployment, with its signatures checked.
    async fn claims(&mut self, deployment: &Deployment) -> Result<Vec<Claim>> {
        let mut claims = Vec::new();
        for (place, anchor) in self.lines.iter().filter(|(_, anchor)| anchor.is_of(deployment)) {
            claims.push(anchor.claim(deployment, place).await?);
            if let Some((source, _)) = place.rsplit_once(", line ") {
                self.unused.remove(source);
            }
        }
        for paper in self.typed.iter().filter(|paper| paper.is_of(deployment)) {
            claims.push(paper.claim());
            self.unused.remove(TYPED);
        }
        for (url, store) in &self.others {
            for (key, anchor) in Anchor::stored(store, deployment).await? {
                let place = format!("{url}: {key}");
                let anchor = anchor.map_err(|error| error.context(place.clone()))?;
                if !anchor.is_of(deployment) {
                    let message = format!("{place} is the anchor of another deployment: it was altered");
                    return Err(Error::new(code::repository::AUDIT_BROKEN, message));
                }
                claims.push(anchor.claim(deployment, &place).await?);
                self.unused.remove(url);
            }
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::samples::time;
    use crate::printer::shown;

    fn chain(name: &str, events: u64, first_bad: Option<BadRecord>, anchors: Vec<AnchorVerdict>) -> Chain {
        Chain {
            deployment: name.parse().unwrap(),
            ok: first_bad.is_none(),
            events,
            head: (events > 0).then(|| "a5".repeat(32)),
            last_at: None,
            first_bad,
            anchors,
        }
    }

    fn anchor(sequence: u64, holds: Option<bool>) -> AnchorVerdict {
        AnchorVerdict {
            source: "/mnt/usb/anchors, line 1".to_owned(),
            sequence,
            at: Some(time("2026-11-22T08:01:00Z")),
            within: false,
            holds,
        }
    }

    #[test]
    fn chains_that_can_be_believed() {
        let result = AuditVerifyResult {
            url: "file:///srv/backup".to_owned(),
            ok: true,
            deployments: vec![
                chain("billing", 0, None, Vec::new()),
                chain("crm", 3, None, Vec::new()),
                chain("db1", 6, None, vec![anchor(5, Some(true))]),
            ],
        };
        assert_eq!(exit(&result), 0);
        insta::assert_snapshot!(shown("audit verify", &result));
    }

    #[test]
    fn the_first_bad_record_is_named() {
        let bad = BadRecord {
            sequence: 5,
            problem: "it is missing: the chain was cut off here, /mnt/usb/anchors, line 1 has seen record 6".to_owned(),
        };
        let result = AuditVerifyResult {
            url: "file:///srv/backup".to_owned(),
            ok: false,
            deployments: vec![chain(
                "db1",
                4,
                Some(bad),
                vec![anchor(4, Some(true)), anchor(6, Some(false)), anchor(9, None)],
            )],
        };
        assert_eq!(exit(&result), 9);
        insta::assert_snapshot!(result.text());
    }
}
