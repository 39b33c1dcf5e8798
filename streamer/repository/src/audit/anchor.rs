//! An anchor: a signed word about the head of a chain, one line of JSON, to be kept where whoever can write into the
//! repository cannot write.

use hardstorage_codec::{SigningKey, fingerprint};
use hardstorage_report::{DeploymentName, Error, Result, code};
use hardstorage_storage::DynStore;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::chain::ChainHead;
use super::walk::Claim;
use crate::document::{self, Made, corrupt};
use crate::listing::Objects;
use crate::text_number::{decimal, hex_bytes};
use crate::{Deployment, layout};

const SCHEMA: &str = "hardstorage.anchor.v1";
const DOMAIN: &str = "pg_hardstorage anchor v1\n";

/// A signed head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    schema: String,
    /// The repository.
    #[serde(with = "hex_bytes")]
    pub repository_id: [u8; 16],
    /// The deployment.
    pub deployment: DeploymentName,
    /// The number of the head.
    #[serde(with = "decimal")]
    pub sequence: u64,
    /// The hash of its stored bytes.
    #[serde(with = "hex_bytes")]
    pub head: [u8; 32],
    /// When.
    pub at: Timestamp,
    /// The fingerprint of who signed.
    pub signer: String,
    #[serde(with = "hex_bytes")]
    signature: [u8; 64],
}

fn malformed(what: impl std::fmt::Display) -> Error {
    Error::new(code::repository::ANCHOR_MALFORMED, format!("not an anchor: {what}"))
}

impl Anchor {
    /// Signs a head.
    pub fn sign(deployment: &Deployment, head: &ChainHead, key: &SigningKey) -> Anchor {
        let mut anchor = Anchor {
            schema: SCHEMA.to_owned(),
            repository_id: deployment.descriptor().repository_id,
            deployment: deployment.name().clone(),
            sequence: head.sequence,
            head: head.hash,
            at: deployment.surroundings().now(),
            signer: fingerprint(&key.public()),
            signature: [0; 64],
        };
        anchor.signature = key.sign(&anchor.signed_bytes());
        anchor
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let (id, head) = (hex::encode(self.repository_id), hex::encode(self.head));
        let (name, sequence, at) = (&self.deployment, self.sequence, self.at);
        format!("{DOMAIN}{id}\n{name}\n{sequence}\n{head}\n{at}\n").into_bytes()
    }

    /// One line, without its end.
    pub fn line(&self) -> Result<String> {
        serde_json::to_string(self).map_err(malformed)
    }

    /// Reads a line; nothing is believed yet.
    pub fn parse(line: &str) -> Result<Anchor> {
        let anchor: Anchor = serde_json::from_str(line).map_err(malformed)?;
        if anchor.schema == SCHEMA {
            Ok(anchor)
        } else {
            Err(malformed(format!("its schema is {:?}", anchor.schema)))
        }
    }

    /// Whether it is about this deployment of this repository.
    pub fn is_of(&self, deployment: &Deployment) -> bool {
        self.repository_id == deployment.descriptor().repository_id && self.deployment == *deployment.name()
    }

    /// Its claim, once its signature holds and its signer is believed here.
    pub async fn claim(&self, deployment: &Deployment, source: &str) -> Result<Claim> {
        let public = deployment.signer(&self.signer).await?;
        if !public.verify(&self.signed_bytes(), &self.signature) {
            let message = format!("the signature of the anchor in {source} does not hold: it was altered");
            return Err(Error::new(code::repository::AUDIT_BROKEN, message));
        }
        Ok(Claim {
            source: source.to_owned(),
            sequence: self.sequence,
            hash: self.head.to_vec(),
            at: Some(self.at),
            within: false,
        })
    }

    /// Puts it into another repository, durable on return. One of the same head stays as it is.
    pub async fn put(&self, other: &DynStore) -> Result<()> {
        let key = layout::foreign_anchor(self.repository_id, &self.deployment, self.sequence, &self.head);
        let line = format!("{}\n", self.line()?);
        if let Made::Theirs(_) = document::create(other, &key, &line.into()).await? {
            other.confirm(&[key]).await?;
        }
        other.sync().await
    }

    /// Those of a deployment that lie in another repository, each with its name.
    pub async fn stored(other: &DynStore, deployment: &Deployment) -> Result<Vec<(String, Result<Anchor>)>> {
        let folder = layout::foreign_anchors(deployment.descriptor().repository_id, deployment.name());
        let mut found = Vec::new();
        for object in Objects::under(other, folder).all().await? {
            let stored = other.get(&object.key).await?;
            let anchor = stored
                .ok_or_else(|| corrupt(&object.key, "listed, but not there"))
                .and_then(|stored| Anchor::parse(&String::from_utf8_lossy(&stored)));
            found.push((object.key.to_string(), anchor));
        }
        Ok(found)
    }
}
