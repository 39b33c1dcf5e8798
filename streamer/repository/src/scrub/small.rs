//! Small objects: the MAC of an envelope, the signature of a manifest; without a key their form alone.

use bytes::Bytes;
use hardstorage_codec::{KeyedHash, plain_hash};
use hardstorage_report::{BackupId, DeploymentName, Result};
use hardstorage_storage::Key;
use serde::Deserialize;

use super::object::Class;
use super::unchecked;
use crate::document::{self, corrupt};
use crate::listing::Objects;
use crate::manifest::{load, signed, void};
use crate::{Anchor, Deployment, EnvelopeKind, layout, open_envelope, split_envelope};

/// What could not be looked at in an object that seems right.
pub(super) type Unchecked = Option<&'static str>;

/// What most documents say about themselves.
#[derive(Debug, Deserialize)]
struct Itself {
    #[serde(default)]
    deployment: Option<String>,
    #[serde(default)]
    backup_id: Option<String>,
    #[serde(default)]
    sequence: Option<serde_json::Value>,
}

/// Whether a document says that it is what its name says. Its MAC covers no name: one from elsewhere in the repository would
/// open as well.
pub(super) fn says_its_name(name: &DeploymentName, class: &Class, key: &Key, stored: &Bytes) -> Result<()> {
    let Class::Envelope(kind) = class else {
        return Ok(());
    };
    let (Some((_, payload)), true) = (split_envelope(*kind, stored), is_json(*kind)) else {
        return Ok(());
    };
    let said: Itself = document::parse(key, &payload)?;
    let parts: Vec<&str> = key.as_str().split('/').collect();
    let of_backup = parts.first() == Some(&"manifests");
    let own = key.base_name().trim_end_matches(".json");
    let number = match kind {
        EnvelopeKind::State
        | EnvelopeKind::Config
        | EnvelopeKind::Session
        | EnvelopeKind::Scrub
        | EnvelopeKind::Audit => u64::from_str_radix(own, 16).ok(),
        _ => None,
    };
    let sequence = said.sequence.as_ref().and_then(|sequence| match sequence {
        serde_json::Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    });
    let itself = said.deployment.as_deref().is_none_or(|said| said == name.as_str())
        && (!of_backup || said.backup_id.as_deref().is_none_or(|said| parts.get(2) == Some(&said)))
        && number.is_none_or(|number| sequence == Some(number));
    document::must_be_itself(key, itself)
}

/// Whose key it was made with, as it says itself.
#[derive(Debug, Deserialize)]
struct Claim {
    #[serde(default)]
    kek_fingerprint: Option<String>,
}

fn is_json(kind: EnvelopeKind) -> bool {
    !matches!(kind, EnvelopeKind::History | EnvelopeKind::Aux)
}

/// With the key.
pub(super) async fn check(deployment: &Deployment, class: &Class, key: &Key, stored: &Bytes) -> Result<Unchecked> {
    match class {
        Class::Manifest(id) => load::open(deployment, id, stored).await.map(|_| None),
        Class::Envelope(EnvelopeKind::Descriptor) => {
            // What the opening of the repository has proven is what must still lie there.
            if plain_hash(stored) == *deployment.descriptor_hash() {
                Ok(None)
            } else {
                Err(corrupt(key, "it is not what it was a moment ago"))
            }
        }
        Class::Envelope(kind @ (EnvelopeKind::Config | EnvelopeKind::Key | EnvelopeKind::Signer)) => {
            match open(*kind, &deployment.root().mac(*kind), key, stored) {
                Err(_) if is_superseded(deployment, *kind, key, stored).await? => Ok(Some(unchecked::SUPERSEDED)),
                opened => opened.map(|()| None),
            }
        }
        Class::Envelope(kind) => open(*kind, &deployment.key().mac(*kind), key, stored).map(|()| None),
        Class::ForeignAnchor => foreign_anchor(key, stored),
        Class::Pack(_) | Class::Wal(_) | Class::Strange => Ok(None),
    }
}

/// Without any key.
pub(super) fn check_form(class: &Class, key: &Key, stored: &Bytes) -> Result<Unchecked> {
    match class {
        Class::Manifest(id) if void::is_void(stored) => form(EnvelopeKind::Void, key, stored)
            .map_err(|error| error.context(id.to_string()))
            .map(|()| Some(unchecked::MACS)),
        Class::Manifest(id) => manifest_form(id, key, stored),
        Class::Envelope(kind) => form(*kind, key, stored).map(|()| Some(unchecked::MACS)),
        Class::ForeignAnchor => foreign_anchor(key, stored),
        Class::Pack(_) | Class::Wal(_) | Class::Strange => Ok(None),
    }
}

fn open(kind: EnvelopeKind, mac: &KeyedHash, key: &Key, stored: &Bytes) -> Result<()> {
    let payload = open_envelope(kind, mac, stored, key.as_str())?;
    json(kind, key, &payload)
}

fn form(kind: EnvelopeKind, key: &Key, stored: &Bytes) -> Result<()> {
    let what = format!("not an envelope of kind {}", kind.label());
    let (mac, payload) = split_envelope(kind, stored).ok_or_else(|| corrupt(key, &what))?;
    let hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    if !mac.iter().all(hex) {
        return Err(corrupt(key, what));
    }
    json(kind, key, &payload)
}

fn json(kind: EnvelopeKind, key: &Key, payload: &[u8]) -> Result<()> {
    if is_json(kind) {
        document::parse::<serde_json::Value>(key, payload)?;
    }
    Ok(())
}

fn manifest_form(id: &BackupId, key: &Key, stored: &Bytes) -> Result<Unchecked> {
    let signed = signed::split(stored, id.as_str())?;
    document::parse::<serde_json::Value>(key, signed.payload())?;
    Ok(Some(unchecked::SIGNATURES))
}

fn foreign_anchor(key: &Key, stored: &Bytes) -> Result<Unchecked> {
    let text = std::str::from_utf8(stored).map_err(|error| corrupt(key, "it is no anchor").source(error))?;
    let anchor = Anchor::parse(text.trim_end()).map_err(|error| corrupt(key, "it is no anchor").source(error))?;
    let own = layout::foreign_anchor(anchor.repository_id, &anchor.deployment, anchor.sequence, &anchor.head);
    document::must_be_itself(key, own == *key).map(|()| Some(unchecked::ANCHORS))
}

/// Whether something newer under the present KEK stands in the place of this one, which was made with another KEK: that
/// one is not here, and nobody needs what it covers.
async fn is_superseded(deployment: &Deployment, kind: EnvelopeKind, key: &Key, stored: &Bytes) -> Result<bool> {
    let other_kek = match kind {
        // A signer does not say with which key it was sealed.
        EnvelopeKind::Signer => true,
        _ => split_envelope(kind, stored)
            .and_then(|(_, payload)| document::parse::<Claim>(key, &payload).ok())
            .is_some_and(|claim| claim.kek_fingerprint.as_deref() != deployment.root().fingerprint()),
    };
    let name = key.as_str();
    let Some(at) = name.rfind('/').filter(|_| other_kek) else {
        return Ok(false);
    };
    let (folder, own) = name.split_at(at + 1);
    let own = own.trim_end_matches(".json");
    let stem = own.split('-').next().unwrap_or(own);
    let mac = deployment.root().mac(kind);
    for object in Objects::under(deployment.store(), folder).all().await? {
        let other = object.key.base_name().trim_end_matches(".json");
        let same = kind != EnvelopeKind::Signer || other.split('-').next() == Some(stem);
        // `<fingerprint>` sorts before `<fingerprint>-0002`, and numbers of one length as they count.
        if same
            && other > own
            && let Some(found) = deployment.store().get(&object.key).await?
            && open(kind, &mac, &object.key, &found).is_ok()
        {
            return Ok(true);
        }
    }
    Ok(false)
}
