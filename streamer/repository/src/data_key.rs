//! The data key of a deployment and every key that follows from it.
//!
//! One purpose, one key: each derived key has a salt and an info of its own, so that no two uses can meet in one
//! nonce or one hash. In an unencrypted repository the data key lies in the clear: hashes and MACs then guard against
//! accidents only, and frames are not sealed.

use hardstorage_codec::{KeyedHash, SealKey, Secret, derive};

use crate::EnvelopeKind;
use crate::layout::WriterId;

/// What a pack holds. Data and metadata never share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PackKind {
    /// Pages and bytes of files.
    Data,
    /// File tables, map layers and pack lists.
    Meta,
}

impl PackKind {
    /// The byte in a pack's header.
    pub fn byte(self) -> u8 {
        match self {
            PackKind::Data => 1,
            PackKind::Meta => 2,
        }
    }

    /// Reads the byte.
    pub fn from_byte(byte: u8) -> Option<PackKind> {
        match byte {
            1 => Some(PackKind::Data),
            2 => Some(PackKind::Meta),
            _ => None,
        }
    }

    fn label(self) -> &'static str {
        match self {
            PackKind::Data => "data",
            PackKind::Meta => "meta",
        }
    }
}

/// A deployment's data key.
#[derive(Debug, Clone)]
pub struct DataKey {
    secret: Secret,
    id: [u8; 16],
    number: u32,
    sealing: bool,
}

impl DataKey {
    /// Takes an opened key. `sealing` is false only in a repository that was made without encryption.
    pub fn new(secret: Secret, id: [u8; 16], number: u32, sealing: bool) -> DataKey {
        DataKey {
            secret,
            id,
            number,
            sealing,
        }
    }

    /// The key's random id, part of all associated data.
    pub fn id(&self) -> &[u8; 16] {
        &self.id
    }

    /// The key's number in `keys/<deployment>/<number>/`.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whether frames are encrypted.
    pub fn seals(&self) -> bool {
        self.sealing
    }

    /// The secret itself, for wrapping under a KEK.
    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    fn keyed(&self, info: &str) -> KeyedHash {
        KeyedHash::new(&derive(&self.secret, b"hs1", info.as_bytes()))
    }

    /// Hashes pages: 64 bits beside a CRC32C and a position.
    pub fn page_hash(&self) -> KeyedHash {
        self.keyed("page hash")
    }

    /// Hashes raw frames: 128 bits, in a pack's directory.
    pub fn frame_hash(&self) -> KeyedHash {
        self.keyed("frame hash")
    }

    /// Hashes what a manifest points at (file table, pack list) as a whole: 256 bits.
    pub fn root_hash(&self) -> KeyedHash {
        self.keyed("root hash")
    }

    /// Hashes whole raw WAL segments: 256 bits.
    pub fn segment_hash(&self) -> KeyedHash {
        self.keyed("wal segment hash")
    }

    /// Hashes the 8 KiB pages of WAL in a tail: 64 bits.
    pub fn wal_page_hash(&self) -> KeyedHash {
        self.keyed("wal page hash")
    }

    /// The MAC of small objects of one kind.
    pub fn mac(&self, kind: EnvelopeKind) -> KeyedHash {
        self.keyed(&format!("envelope {}", kind.label()))
    }

    /// The key that seals the frames of one pack; the nonce is the frame's number.
    pub fn pack_key(&self, writer: &WriterId, sequence: u32, kind: PackKind) -> SealKey {
        self.pack_part(writer, sequence, kind, "pack")
    }

    /// The key that seals the directory of one pack, with nonce 0.
    pub fn directory_key(&self, writer: &WriterId, sequence: u32, kind: PackKind) -> SealKey {
        self.pack_part(writer, sequence, kind, "pack directory")
    }

    fn pack_part(&self, writer: &WriterId, sequence: u32, kind: PackKind, what: &str) -> SealKey {
        let mut salt = [0u8; 20];
        salt[..16].copy_from_slice(writer.bytes());
        salt[16..].copy_from_slice(&sequence.to_be_bytes());
        SealKey::new(&derive(
            &self.secret,
            &salt,
            format!("{what} {}", kind.label()).as_bytes(),
        ))
    }

    /// The key of one WAL object, from the random salt in its header: two streamers may write one name with other bytes.
    pub fn wal_key(&self, salt: &[u8; 16], info: &str) -> SealKey {
        SealKey::new(&derive(&self.secret, salt, format!("wal {info}").as_bytes()))
    }
}
