//! What a manifest says. It is small, public to those who can read the bucket, and every byte of it is signed.

use std::collections::BTreeMap;

use hardstorage_report::{BackupId, DeploymentName, Lsn, SegmentSize, Timeline};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::text_number::{decimal, hex_bytes};
use crate::{Lineage, PackKind, WriterId};

/// The format number that this program writes.
pub const MANIFEST_FORMAT: u32 = 1;

/// The tablespace number under which the file table keeps what is no file of the cluster: no tablespace has it, and no
/// restore writes what lies there.
pub const ATTACHMENTS: u32 = u32::MAX;

/// How a backup was taken. Every one is self-contained all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupKind {
    /// Every page was read.
    Full,
    /// PostgreSQL sent changed blocks only, folded into an earlier backup.
    Incremental,
}

/// Whether the cluster's pages carry checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataChecksums {
    /// They do.
    On,
    /// They do not.
    Off,
    /// The server did not say.
    Unknown,
}

/// The signed root of a backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_FORMAT`].
    pub format: u32,
    /// Features that a reader must know.
    #[serde(default)]
    pub features: Vec<String>,
    /// The deployment.
    pub deployment: DeploymentName,
    /// The backup.
    pub backup_id: BackupId,
    /// How it was taken.
    #[serde(rename = "type")]
    pub kind: BackupKind,
    /// Which life of which cluster.
    pub lineage: Lineage,
    /// The server.
    pub server: ServerFacts,
    /// Where it begins and ends, and what WAL it needs.
    pub wal: WalFacts,
    /// Tablespaces outside PGDATA.
    #[serde(default)]
    pub tablespaces: Vec<Tablespace>,
    /// When.
    pub times: Times,
    /// By whom.
    pub writer: WriterFacts,
    /// The id of the data key.
    #[serde(with = "hex_bytes")]
    pub data_key_id: [u8; 16],
    /// Fingerprint of the signing key.
    pub signer: String,
    /// The backup that pages were compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ancestor: Option<Ancestor>,
    /// The file table.
    pub file_table: Root,
    /// The list of every pack that the backup needs.
    pub pack_list: Root,
    /// Sums.
    pub totals: Totals,
    /// When all its content was last read from the server rather than taken over; a full's own stop time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_checked_at: Option<Timestamp>,
    /// Pages whose checksum did not hold on the server: kept as they were.
    #[serde(default)]
    pub damaged_pages: Vec<DamagedPage>,
    /// A person's name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What schedulers remember about it.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Configuration outside PGDATA.
    #[serde(default)]
    pub external_files: Vec<ExternalFile>,
    /// The snapshot of the source's definition, when one was given: the name of its entry in the file table under
    /// [`ATTACHMENTS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_snapshot: Option<String>,
}

/// What the server said of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFacts {
    /// `server_version_num`, for example 180006.
    pub version_num: u32,
    /// `server_version`, as text.
    pub version: String,
    /// `block_size`.
    pub block_size: u32,
    /// Bytes of one file of a relation (`segment_size`).
    #[serde(with = "decimal")]
    pub relation_segment_size: u64,
    /// `wal_segment_size`.
    pub wal_segment_size: SegmentSize,
    /// `data_checksums`.
    pub data_checksums: DataChecksums,
}

/// A stretch of WAL on one timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalRange {
    /// The timeline.
    pub timeline: Timeline,
    /// First byte.
    pub from: Lsn,
    /// End, exclusive.
    pub to: Lsn,
}

/// A history file that belongs to the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryHash {
    /// The timeline that it describes.
    pub timeline: Timeline,
    /// The hash of its bytes, keyed as histories' envelopes are.
    #[serde(with = "hex_bytes")]
    pub hash: [u8; 32],
}

/// The backup's place in the WAL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalFacts {
    /// Timeline at the start (of `backup_label`).
    pub start_timeline: Timeline,
    /// Timeline at the end.
    pub timeline: Timeline,
    /// Where recovery begins.
    pub start_lsn: Lsn,
    /// Where the copy becomes consistent.
    pub stop_lsn: Lsn,
    /// What recovery to consistency needs.
    pub needed: Vec<WalRange>,
    /// The histories of the timelines above 1.
    #[serde(default)]
    pub histories: Vec<HistoryHash>,
}

/// A tablespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tablespace {
    /// Its oid.
    pub oid: u32,
    /// Where it lay on the server.
    pub location: String,
    /// Bytes in it.
    #[serde(with = "decimal")]
    pub size: u64,
}

/// Server and store times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// The server's clock at the start.
    pub started_at: Timestamp,
    /// The server's clock at the stop.
    pub stopped_at: Timestamp,
    /// The store's clock before the commit.
    pub store_at: Timestamp,
}

/// Who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterFacts {
    /// The writer's id: part of the names of its packs.
    pub id: WriterId,
    /// The scheduler's id of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// The host.
    pub host: String,
    /// Program and version.
    pub tool: String,
}

/// The backup that pages were compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// Its id.
    pub backup_id: BackupId,
    /// The hash of its manifest's stored bytes.
    #[serde(with = "hex_bytes")]
    pub manifest_hash: [u8; 32],
}

/// A pack by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PackId {
    /// Whose.
    pub writer: WriterId,
    /// Which.
    pub sequence: u32,
}

/// Where a frame lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FrameAt {
    /// The pack.
    #[serde(flatten)]
    pub pack: PackId,
    /// What the pack holds.
    pub kind: PackKind,
    /// The frame's number in it.
    pub number: u32,
    /// The offset of the frame's header.
    #[serde(with = "decimal")]
    pub offset: u64,
    /// Bytes after the header, tag included.
    pub stored_len: u32,
    /// Bytes when opened and decompressed.
    pub raw_len: u32,
    /// 0 stored raw, 1 Zstandard.
    pub codec: u8,
}

/// A value that lies in packs: its bytes are the frames' raw bytes in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The frames.
    pub frames: Vec<FrameAt>,
    /// Their raw bytes together.
    #[serde(with = "decimal")]
    pub length: u64,
    /// The hash of those bytes, keyed with `DataKey::root_hash`.
    #[serde(with = "hex_bytes")]
    pub hash: [u8; 32],
}

/// Sums over a backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Bytes that a restore writes.
    #[serde(with = "decimal")]
    pub logical_bytes: u64,
    /// Files, directories and links.
    #[serde(with = "decimal")]
    pub files: u64,
    /// Pages stored by this backup.
    #[serde(with = "decimal")]
    pub new_pages: u64,
    /// Pages taken over from earlier ones.
    #[serde(with = "decimal")]
    pub reused_pages: u64,
    /// Pages of zeros.
    #[serde(with = "decimal")]
    pub zero_pages: u64,
    /// Bytes that this backup added to the store.
    #[serde(with = "decimal")]
    pub stored_bytes: u64,
    /// Packs that this backup added.
    #[serde(with = "decimal")]
    pub new_packs: u64,
    /// Packs that it needs.
    #[serde(with = "decimal")]
    pub needed_packs: u64,
}

/// A page that was bad on the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedPage {
    /// The file, relative to PGDATA.
    pub path: String,
    /// The block in that file; none when the server named the file only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<u32>,
    /// What was wrong.
    pub reason: String,
}

/// A configuration file outside PGDATA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalFile {
    /// Its path on the server.
    pub path: String,
    /// Its bytes, when they could be read: the name of their entry in the file table under [`ATTACHMENTS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<String>,
    /// Why they could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}
