//! `audit anchor`: sign the head of a chain, and put that where whoever can write into the repository cannot.

use std::path::PathBuf;

use hardstorage_codec::SigningKey;
use hardstorage_report::{DeploymentName, Error, Event, Result, Severity, code};
use hardstorage_repository::{
    Anchor, AnchorKind, AuditLog, ChainHead, Deployment, Mode, PaperAnchor, Probe, Repository,
};
use hardstorage_storage::DynStore;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::{chosen, file};
use crate::app::App;
use crate::args::AuditAnchorArgs;
use crate::commands::run::Running;
use crate::printer::Report;

/// One chain.
#[derive(Debug, Serialize)]
struct Anchored {
    deployment: DeploymentName,
    /// How many records there are; the rest is absent when there are none.
    events: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// What was anchored, and where.
#[derive(Debug, Serialize)]
pub(super) struct AnchorResult {
    repository_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<String>,
    deployments: Vec<Anchored>,
}

impl Report for AnchorResult {
    fn text(&self) -> String {
        let mut out = String::new();
        let file = self.file.as_ref().map(|path| path.display().to_string());
        let places: Vec<&str> = file.as_deref().into_iter().chain(self.repository.as_deref()).collect();
        for one in &self.deployments {
            let Some(at) = one.at else {
                out.push_str(&format!(
                    "{}: the audit chain is empty: nothing to anchor\n",
                    one.deployment
                ));
                continue;
            };
            if !places.is_empty() {
                out.push_str(&format!(
                    "✓ {}: {} event(s) anchored in {}\n",
                    one.deployment,
                    one.events,
                    places.join(" and ")
                ));
            }
            if let Some(text) = &one.text {
                let (first, second) = text.split_at(text.len() / 2);
                out.push_str(&format!(
                    "Keep this on paper — {}, {} event(s), {at}:\n\n    {}\n    {}\n\n\
                     To compare: pg_hardstorage audit verify {} --anchor-text \"...\"\n",
                    one.deployment,
                    one.events,
                    first.trim(),
                    second.trim(),
                    one.deployment
                ));
            }
        }
        if self.deployments.is_empty() {
            out.push_str("the repository holds no deployment\n");
        }
        out
    }
}

/// One head that is to be anchored.
struct Due {
    deployment: Deployment,
    head: ChainHead,
    anchor: Anchor,
}

pub(super) async fn anchor(app: &App, args: &AuditAnchorArgs, running: &Running) -> Result<AnchorResult> {
    let path = args.to.as_deref().map(file::outside).transpose()?;
    let url = app.repo_url(&args.repo, args.deployment.as_ref())?;
    let repository = app.repository(&url, Mode::Write).await?;
    let other = match &args.to_repo {
        Some(other) => Some(another(app, other, &repository).await?),
        None => None,
    };
    let mut result = AnchorResult {
        repository_id: hex::encode(repository.descriptor().repository_id),
        file: args.to.clone(),
        repository: args.to_repo.clone(),
        deployments: Vec::new(),
    };
    // Every head first: when one cannot be anchored, nothing is written.
    let mut due = Vec::new();
    for name in chosen(&repository, args.deployment.as_ref()).await? {
        let deployment = repository.deployment(&name).await?;
        let Some(head) = AuditLog::of(&deployment).anchorable().await? else {
            result.deployments.push(Anchored {
                deployment: name,
                events: 0,
                head: None,
                at: None,
                signer: None,
                text: None,
            });
            continue;
        };
        let signer = app.keyring().ensure_signer(deployment.surroundings())?;
        let anchor = signed(&deployment, &head, &signer).await?;
        let text = args.print.then(|| PaperAnchor::of(&anchor).text());
        result.deployments.push(Anchored {
            deployment: name,
            events: head.sequence,
            head: Some(hex::encode(head.hash)),
            at: Some(anchor.at),
            signer: Some(anchor.signer.clone()),
            text,
        });
        due.push(Due {
            deployment,
            head,
            anchor,
        });
    }
    if let Some(path) = path.filter(|_| !due.is_empty()) {
        let lines: Result<String> = due.iter().map(|one| Ok(one.anchor.line()? + "\n")).collect();
        file::append(&path, &lines?)?;
        noted(&due, AnchorKind::File, running).await;
    }
    if let Some(other) = &other {
        for one in &due {
            one.anchor.put(other).await?;
        }
        noted(&due, AnchorKind::Repository, running).await;
    }
    if args.print {
        noted(&due, AnchorKind::Paper, running).await;
    }
    Ok(result)
}

async fn signed(deployment: &Deployment, head: &ChainHead, signer: &SigningKey) -> Result<Anchor> {
    deployment.register_signer(&signer.public()).await?;
    Ok(Anchor::sign(deployment, head, signer))
}

/// The anchors are where they should be; that this repository knows of it is for `status` and `doctor`.
async fn noted(due: &[Due], kind: AnchorKind, running: &Running) {
    for one in due {
        if let Err(error) = AuditLog::of(&one.deployment).note(&one.head, &one.anchor, kind).await {
            running.sink.emit(
                Event::new(Severity::Warning, "audit.receipt_failed")
                    .deployment(one.deployment.name())
                    .body(json!({
                        "code": error.code().as_str(),
                        "message": format!("the anchor is made, and the repository could not take a note of it: {error}"),
                    })),
            );
        }
    }
}

/// Another repository than this one; no key is needed to put an anchor there.
async fn another(app: &App, url: &str, own: &Repository) -> Result<DynStore> {
    let store = app.store(url, false, false).await?;
    match Repository::probe(&store).await? {
        Probe::Present(facts) if facts.descriptor.repository_id == own.descriptor().repository_id => Err(Error::new(
            code::repository::ANCHOR_INSIDE,
            format!("{url} is the repository that is to be anchored, or a copy of it"),
        )),
        Probe::Present(_) => Ok(store),
        _ => Err(Error::new(
            code::repository::MISSING,
            format!("there is no repository at {url}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::samples::time;
    use crate::printer::shown;

    #[test]
    fn what_was_anchored_and_what_is_for_paper() {
        let one = |name: &str, events| Anchored {
            deployment: name.parse().unwrap(),
            events,
            head: Some("a5".repeat(32)),
            at: Some(time("2026-11-22T08:01:00Z")),
            signer: Some("8796a5b4c3d2e1f0".to_owned()),
            text: Some(vec!["0123"; 16].join(" ")),
        };
        let empty = Anchored {
            head: None,
            at: None,
            signer: None,
            text: None,
            ..one("billing", 0)
        };
        let result = AnchorResult {
            repository_id: "00112233445566778899aabbccddeeff".to_owned(),
            file: Some("/mnt/usb/anchors".into()),
            repository: Some("s3://other/".to_owned()),
            deployments: vec![empty, one("db1", 6)],
        };
        insta::assert_snapshot!(shown("audit anchor", &result));
    }
}
