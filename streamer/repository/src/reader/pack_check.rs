//! Is a pack still what was written? Two answers: without any key, every byte against the digest in its own footer; with
//! the key, its header, footer and directory against what a signed backup says of it, without reading the frames.

use bytes::Bytes;
use hardstorage_codec::{PlainHash, TAG_LEN, equal, plain_hash};
use hardstorage_report::{DeploymentName, Error, Kind, Result, code};
use hardstorage_storage::DynStore;
use tokio_util::sync::CancellationToken;

use super::fetch::{self, Fault};
use super::plan::blocking;
use crate::pack::{DIRECTORY_ENTRY_LEN, FOOTER_LEN, Footer, PACK_HEADER_LEN, PackCipher, PackHeader};
use crate::table::PackRecord;
use crate::{Deployment, PackId, layout};

const READ: u64 = 4 << 20;
/// The directory and footer of most packs fit into this much of their end.
const TAIL: u64 = 32 << 10;

/// A pack that was read through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedPack {
    /// Its header.
    pub header: PackHeader,
    /// Its footer.
    pub footer: Footer,
    /// Its length.
    pub length: u64,
}

/// Reads a whole pack and compares it with the digest in its footer. Needs no key; finds accidents, not forgeries. A pack
/// that is damaged is `verify.object_corrupt`, one that is not there or too short is `verify.pack_missing`.
pub async fn check_pack_bytes(
    store: &DynStore,
    deployment: &DeploymentName,
    pack: PackId,
    length: u64,
    cancel: &CancellationToken,
) -> Result<CheckedPack> {
    let key = layout::pack(deployment, &pack.writer, pack.sequence);
    let corrupt = |problem: &str| Error::new(code::repository::OBJECT_CORRUPT, format!("object {key}: {problem}"));
    let Some(body) = length
        .checked_sub(FOOTER_LEN as u64)
        .filter(|body| *body >= PACK_HEADER_LEN as u64)
    else {
        return Err(Error::new(
            code::repository::PACK_MISSING,
            format!("object {key}: {length} bytes are too few for a pack"),
        ));
    };
    let read = async |start: u64, end: u64| match store.get_range(&key, start..end).await.map_err(Fault::of) {
        Ok(bytes) if bytes.len() as u64 == end - start => Ok(bytes),
        Ok(_) => Err(corrupt("the store gave fewer bytes than it has")),
        Err(Fault::Store(error)) => Err(error),
        Err(Fault::Missing(reason) | Fault::Bad(reason)) => Err(Error::new(code::repository::PACK_MISSING, reason)),
    };
    let footer = Footer::decode(&read(body, length).await?, length).map_err(|error| corrupt(&error.to_string()))?;
    let mut hash = PlainHash::default();
    let mut header = None;
    let mut at = 0;
    let mut next = Some(read(0, body.min(READ)).await?);
    while let Some(bytes) = next.take() {
        if cancel.is_cancelled() {
            return Err(Error::new(code::cli::INTERRUPTED, "stopped before the end"));
        }
        if at == 0 {
            let first = bytes.get(..PACK_HEADER_LEN).unwrap_or_default();
            header = Some(PackHeader::decode(first).map_err(|error| corrupt(&error.to_string()))?);
        }
        at += bytes.len() as u64;
        // The next piece is on its way while this one is hashed.
        let hashing = blocking(move || {
            hash.update(&bytes);
            Ok(hash)
        });
        let reading = async {
            if at < body {
                read(at, body.min(at + READ)).await.map(Some)
            } else {
                Ok::<Option<Bytes>, Error>(None)
            }
        };
        let (hashed, read) = tokio::join!(hashing, reading);
        (hash, next) = (hashed?, read?);
    }
    let header = header.ok_or_else(|| corrupt("it is empty"))?;
    if header.id != pack {
        return Err(corrupt("its header names another pack"));
    }
    let overhead = if header.sealed { TAG_LEN } else { 0 };
    let directory = u64::from(footer.frames) * DIRECTORY_ENTRY_LEN as u64 + overhead as u64;
    if u64::from(footer.directory_len) != directory {
        return Err(corrupt("its footer counts other frames than its directory holds"));
    }
    if hash.finish() != footer.digest {
        return Err(corrupt("its bytes do not match the digest in its footer"));
    }
    Ok(CheckedPack { header, footer, length })
}

/// What a check of one pack found.
#[derive(Debug)]
pub(super) enum PackFinding {
    Sound,
    /// Missing or of another length: content is lost with it.
    Lost(String),
    /// Header, directory or footer is not what the backup says; frames may be sound.
    Damaged(String),
}

/// Compares a pack's frame with what the backup's pack list says of it. `found` is its length in a listing. Of the pack
/// that holds the list nothing is said there: `thorough` reads the whole of it.
pub(super) async fn check_pack(
    deployment: &Deployment,
    record: &PackRecord,
    found: Option<u64>,
    thorough: bool,
) -> Result<PackFinding> {
    let Some(length) = found else {
        return Ok(PackFinding::Lost("the pack is not there".into()));
    };
    if !record.holds_the_list() && length != record.length {
        return Ok(PackFinding::Lost(format!(
            "the pack has {length} bytes instead of {}",
            record.length
        )));
    }
    if length < (PACK_HEADER_LEN + FOOTER_LEN) as u64 {
        return Ok(PackFinding::Lost(format!("{length} bytes are too few for a pack")));
    }
    // One retry: a transfer may have gone wrong.
    let checked = match check_parts(deployment, record, length).await {
        Err(Fault::Bad(_)) => check_parts(deployment, record, length).await,
        other => other,
    };
    if thorough && record.holds_the_list() && checked.is_ok() {
        let (store, name) = (deployment.store(), deployment.name());
        return match check_pack_bytes(store, name, record.id, length, &CancellationToken::new()).await {
            Ok(_) => Ok(PackFinding::Sound),
            Err(error) if error.kind() == Kind::Verify => Ok(PackFinding::Damaged(error.to_string())),
            Err(error) => Err(error),
        };
    }
    finding(checked)
}

fn finding(checked: Result<(), Fault>) -> Result<PackFinding> {
    match checked {
        Ok(()) => Ok(PackFinding::Sound),
        Err(Fault::Store(error)) => Err(error),
        Err(Fault::Missing(reason)) => Ok(PackFinding::Lost(reason)),
        Err(Fault::Bad(reason)) => Ok(PackFinding::Damaged(reason)),
    }
}

/// Whether a pack that was just listed has the header, footer and directory that were recorded for it.
pub(crate) async fn is_whole(deployment: &Deployment, record: &PackRecord) -> Result<bool> {
    let found = check_pack(deployment, record, Some(record.length), false).await?;
    Ok(matches!(found, PackFinding::Sound))
}

async fn check_parts(deployment: &Deployment, record: &PackRecord, length: u64) -> Result<(), Fault> {
    let bad = |error: Error| Fault::Bad(error.to_string());
    let wrong = |problem: &str| Err(Fault::Bad(problem.to_owned()));
    let head = fetch::range(deployment, record.id, 0..PACK_HEADER_LEN as u64).await?;
    let header = PackHeader::decode(&head).map_err(bad)?;
    let cipher = PackCipher::new(deployment.key(), record.id, record.kind);
    if header != *cipher.header() {
        return wrong("its header is another pack's");
    }
    let start = length.saturating_sub(TAIL);
    let tail = fetch::range(deployment, record.id, start..length).await?;
    let footer_at = tail.len().saturating_sub(FOOTER_LEN);
    let footer = Footer::decode(tail.get(footer_at..).unwrap_or_default(), length).map_err(bad)?;
    let directory = if footer.directory_offset >= start {
        tail.slice((footer.directory_offset - start) as usize..footer_at)
    } else {
        fetch::range(
            deployment,
            record.id,
            footer.directory_offset..length - FOOTER_LEN as u64,
        )
        .await?
    };
    if !record.holds_the_list() {
        if !equal(&footer.digest, &record.digest) {
            return wrong("its footer has another digest than the backup recorded");
        }
        if !equal(&plain_hash(&directory), &record.directory_hash) {
            return wrong("its directory is not the one that the backup recorded");
        }
    }
    let entries = cipher.open_directory(&footer, &directory).map_err(bad)?;
    let end = entries.last().map_or(PACK_HEADER_LEN as u64, |last| {
        last.offset + crate::pack::FRAME_HEADER_LEN as u64 + u64::from(last.stored_len)
    });
    if end != footer.directory_offset {
        return wrong("its frames do not reach to its directory");
    }
    Ok(())
}
