//! What lies at a URL, told without a key.

use hardstorage_report::Result;
use hardstorage_storage::{DynStore, ListRequest};

use crate::listing::folders;
use crate::policy::Policy;
use crate::{Descriptor, layout};

/// What is there.
#[derive(Debug)]
pub enum Probe {
    /// Nothing at all.
    Absent,
    /// A repository. Read without a key: claims, not facts.
    Present(Box<ProbeFacts>),
    /// Other objects, but no descriptor.
    Foreign {
        /// Some of their names.
        examples: Vec<String>,
        /// Whether they look like a repository that lost its descriptor.
        looks_like_ours: bool,
    },
}

/// What a repository says of itself.
#[derive(Debug, Clone)]
pub struct ProbeFacts {
    /// The descriptor.
    pub descriptor: Descriptor,
    /// The fingerprint of the present KEK; the descriptor's own is that of the first.
    pub kek_fingerprint: Option<String>,
    /// The deployments that have a key here.
    pub deployments: Vec<String>,
}

const OUR_FOLDERS: &[&str] = &[
    "config/",
    "keys/",
    "signers/",
    "packs/",
    "manifests/",
    "wal/",
    "sessions/",
    "damage/",
    "audit/",
    "scrub/",
];

/// Looks.
pub(crate) async fn probe(store: &DynStore) -> Result<Probe> {
    if let Some(stored) = store.get(&layout::descriptor()).await? {
        let descriptor = Descriptor::peek(&stored)?;
        let kek_fingerprint = Policy::claimed_fingerprint(store)
            .await?
            .or_else(|| descriptor.kek_fingerprint.clone());
        return Ok(Probe::Present(Box::new(ProbeFacts {
            descriptor,
            kek_fingerprint,
            deployments: folders(store, "keys/").await?,
        })));
    }
    let mut request = ListRequest::level("");
    let mut names: Vec<String> = Vec::new();
    loop {
        let listing = store.list(&request).await?;
        names.extend(listing.folders);
        names.extend(listing.objects.into_iter().map(|object| object.key.to_string()));
        // What a dead `repo init` left of its race is not in anyone's way.
        names.retain(|name| name != layout::PROBE_FOLDER);
        let enough = names.len() >= 1000;
        match listing.next {
            Some(next) if !enough && request.after.as_ref() != Some(&next) => request.after = Some(next),
            _ => break,
        }
    }
    if names.is_empty() {
        return Ok(Probe::Absent);
    }
    let looks_like_ours = names.iter().any(|name| OUR_FOLDERS.contains(&name.as_str()));
    names.truncate(5);
    Ok(Probe::Foreign {
        examples: names,
        looks_like_ours,
    })
}
