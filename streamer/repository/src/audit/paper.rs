//! An anchor for paper: 64 hex digits in groups of four. Paper cannot be altered from afar, so it bears no signature; a
//! checksum tells a slip of whoever types it in.

use hardstorage_codec::{crc32c, plain_hash};
use hardstorage_report::{DeploymentName, Error, Result, code};

use super::anchor::Anchor;
use super::walk::Claim;
use crate::Deployment;

const LEN: usize = 32;

/// What stands on the paper: which chain, the number of its head, and half of the head's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaperAnchor {
    chain: [u8; 4],
    sequence: u64,
    head: [u8; 16],
}

impl PaperAnchor {
    /// Of an anchor.
    pub fn of(anchor: &Anchor) -> PaperAnchor {
        let mut head = [0; 16];
        head.copy_from_slice(&anchor.head[..16]);
        PaperAnchor {
            chain: chain(anchor.repository_id, &anchor.deployment),
            sequence: anchor.sequence,
            head,
        }
    }

    /// Groups of four digits: chain, number, hash, checksum.
    pub fn text(&self) -> String {
        let mut bytes = Vec::with_capacity(LEN);
        bytes.extend_from_slice(&self.chain);
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.head);
        bytes.extend_from_slice(&crc32c(&bytes).to_be_bytes());
        let groups: Vec<String> = bytes.chunks(2).map(hex::encode).collect();
        groups.join(" ")
    }

    /// Reads what was typed; spaces and dashes are for people.
    pub fn parse(text: &str) -> Result<PaperAnchor> {
        let wrong = |what: &str| Error::new(code::repository::ANCHOR_MALFORMED, format!("the typed anchor {what}"));
        let digits: String = text
            .chars()
            .filter(|c| !c.is_whitespace() && *c != '-')
            .map(|c| match c.to_ascii_lowercase() {
                'o' => '0',
                'l' | 'i' => '1',
                other => other,
            })
            .collect();
        if digits.len() != 2 * LEN || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong("is not 64 digits and letters from a to f"));
        }
        let mut bytes = [0; LEN];
        hex::decode_to_slice(&digits, &mut bytes).map_err(|_| wrong("cannot be read"))?;
        let (body, sum) = bytes.split_at(LEN - 4);
        if crc32c(body).to_be_bytes() != sum {
            return Err(wrong("has a slip in it: its checksum does not hold"));
        }
        let (chain, rest) = body.split_at(4);
        let (sequence, head) = rest.split_at(8);
        let mut anchor = PaperAnchor {
            chain: [0; 4],
            sequence: sequence.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)),
            head: [0; 16],
        };
        anchor.chain.copy_from_slice(chain);
        anchor.head.copy_from_slice(head);
        Ok(anchor)
    }

    /// Whether it is about this deployment of this repository.
    pub fn is_of(&self, deployment: &Deployment) -> bool {
        self.chain == chain(deployment.descriptor().repository_id, deployment.name())
    }

    /// What it says.
    pub fn claim(&self) -> Claim {
        Claim {
            source: "the typed anchor".to_owned(),
            sequence: self.sequence,
            hash: self.head.to_vec(),
            at: None,
            within: false,
        }
    }
}

fn chain(repository_id: [u8; 16], name: &DeploymentName) -> [u8; 4] {
    let about = [b"pg_hardstorage chain\n", &repository_id[..], name.as_str().as_bytes()].concat();
    let hash = plain_hash(&about);
    [hash[0], hash[1], hash[2], hash[3]]
}
