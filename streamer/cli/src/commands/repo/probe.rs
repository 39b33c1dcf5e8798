//! `repo probe`: what lies at a URL, as far as it can be told without a key.

use hardstorage_engine::audit;
use hardstorage_report::{Error, ErrorReport, EventSink, Result, code};
use hardstorage_repository::{
    AuditAction, AuditEvent, CreateOnly, Mode, Probe, Repository, Surroundings, kek_fingerprint,
};
use serde::Serialize;

use crate::app::App;
use crate::printer::Report;

/// What lies at a URL.
#[derive(Debug, Serialize)]
pub(super) struct ProbeResult {
    url: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encrypted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kek_fingerprint: Option<String>,
    /// The key that is at hand, which may be another one, or missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    own_key: Option<String>,
    /// Why the key that is at hand cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    own_key_problem: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deployments: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    examples: Vec<String>,
    /// Whether the store keeps create-only writes; nothing when that was not tried or could not be.
    #[serde(skip_serializing_if = "Option::is_none")]
    create_only_proven: Option<bool>,
    /// Why nothing can be written, or not safely.
    #[serde(skip_serializing_if = "Option::is_none")]
    write_problem: Option<ErrorReport>,
}

impl Report for ProbeResult {
    fn text(&self) -> String {
        let mut out = format!("{}: {}\n", self.url, self.state);
        if let Some(id) = &self.id {
            out.push_str(&format!("ID:           {id}\n"));
        }
        if let Some(encrypted) = self.encrypted {
            out.push_str(&format!("Encrypted:    {}\n", if encrypted { "yes" } else { "no" }));
        }
        if let Some(fingerprint) = &self.kek_fingerprint {
            let held = match &self.own_key {
                _ if self.own_key_problem.is_some() => " (the one at hand cannot be read)".to_owned(),
                Some(own) if own == fingerprint => " (at hand)".to_owned(),
                Some(own) => format!(" (the one at hand is {own})"),
                None => " (not at hand)".to_owned(),
            };
            out.push_str(&format!("KEK:          {fingerprint}{held}\n"));
        }
        if !self.deployments.is_empty() {
            out.push_str(&format!("Deployments:  {}\n", self.deployments.join(", ")));
        }
        for example in &self.examples {
            out.push_str(&format!("Holds:        {example}\n"));
        }
        match (&self.write_problem, self.create_only_proven) {
            (Some(problem), _) => out.push_str(&format!(
                "Writes:       ✗ {}: {}\n  hint: {}\n",
                problem.code, problem.message, problem.hint
            )),
            (None, Some(true)) => out.push_str("Writes:       create-only, tried\n"),
            (None, _) => {}
        }
        out
    }
}

pub(super) async fn probe(app: &App, url: String, prove_writes: bool) -> Result<ProbeResult> {
    let store = app.store(&url, false, true).await?;
    let mut result = ProbeResult {
        url,
        state: "absent",
        id: None,
        encrypted: None,
        kek_fingerprint: None,
        own_key: None,
        own_key_problem: None,
        deployments: Vec::new(),
        examples: Vec::new(),
        create_only_proven: None,
        write_problem: None,
    };
    match app.keyring().kek() {
        Ok(kek) => result.own_key = kek.map(|kek| kek_fingerprint(&kek)),
        // What lies at the URL can be told all the same.
        Err(error) => result.own_key_problem = Some(error.to_string()),
    }
    match Repository::probe(&store).await? {
        Probe::Absent => {}
        Probe::Foreign {
            examples,
            looks_like_ours,
        } => {
            result.state = if looks_like_ours { "descriptor lost" } else { "foreign" };
            result.examples = examples;
        }
        Probe::Present(facts) => {
            result.state = "present";
            result.id = Some(hex::encode(facts.descriptor.repository_id));
            result.encrypted = Some(facts.kek_fingerprint.is_some());
            result.kek_fingerprint = facts.kek_fingerprint;
            result.deployments = facts.deployments;
            if prove_writes {
                try_writes(app, &mut result).await;
            }
        }
    }
    Ok(result)
}

/// Whatever comes of it, the look itself went well: credentials that may only read are enough to restore with.
async fn try_writes(app: &App, result: &mut ProbeResult) {
    let tried = async {
        let store = app.store(&result.url, false, false).await?;
        Repository::prove_create_only(&store, &Surroundings::default()).await
    };
    match tried.await {
        Ok(CreateOnly::Kept) => result.create_only_proven = Some(true),
        Ok(CreateOnly::Broken(what)) => {
            record_broken(app, &result.url, &what).await;
            result.create_only_proven = Some(false);
            result.write_problem = Some((&Error::new(code::repository::NOT_CREATE_ONLY, what)).into());
        }
        Err(error) => result.write_problem = Some((&error).into()),
    }
}

/// A store that was believed and has lost that is worth a record, where the key is at hand.
async fn record_broken(app: &App, url: &str, what: &str) {
    let event = AuditEvent::new(AuditAction::CreateOnlyBroken, None).reason(what);
    let recorded = async { app.repository(url, Mode::Read).await?.audit_everywhere(&event).await };
    match recorded.await {
        Ok(failed) => {
            for (name, error) in failed {
                app.printer.emit(audit::not_recorded(&error).deployment(&name));
            }
        }
        Err(error) => app.printer.emit(audit::not_recorded(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::shown;

    #[test]
    fn a_repository() {
        let result = ProbeResult {
            url: "s3://bucket/prefix".to_owned(),
            state: "present",
            id: Some("00112233445566778899aabbccddeeff".to_owned()),
            encrypted: Some(true),
            kek_fingerprint: Some("0f1e2d3c4b5a6978".to_owned()),
            own_key: None,
            own_key_problem: None,
            deployments: vec!["billing".to_owned(), "db1".to_owned()],
            examples: Vec::new(),
            create_only_proven: Some(true),
            write_problem: None,
        };
        insta::assert_snapshot!(shown("repo probe", &result));
    }

    #[test]
    fn something_else() {
        let result = ProbeResult {
            url: "s3://bucket/".to_owned(),
            state: "foreign",
            id: None,
            encrypted: None,
            kek_fingerprint: None,
            own_key: None,
            own_key_problem: None,
            deployments: Vec::new(),
            examples: vec!["photos/1.jpg".to_owned(), "photos/2.jpg".to_owned()],
            create_only_proven: None,
            write_problem: None,
        };
        insta::assert_snapshot!(shown("repo probe", &result));
    }

    #[test]
    fn one_that_may_only_be_read() {
        let refused = Error::new(code::storage::DENIED, "create probe/00: access denied");
        let result = ProbeResult {
            url: "s3://bucket/prefix".to_owned(),
            state: "present",
            id: Some("00112233445566778899aabbccddeeff".to_owned()),
            encrypted: Some(false),
            kek_fingerprint: None,
            own_key: None,
            own_key_problem: None,
            deployments: Vec::new(),
            examples: Vec::new(),
            create_only_proven: None,
            write_problem: Some((&refused).into()),
        };
        insta::assert_snapshot!(shown("repo probe", &result));
    }
}
