//! Reads exact ranges of packs, and tells a store that fails from a pack that is damaged.

use std::ops::Range;

use bytes::Bytes;
use hardstorage_report::{Error, Result, code};

use crate::{Deployment, FrameAt, PackId, layout};

/// Why bytes did not come.
#[derive(Debug)]
pub(super) enum Fault {
    /// The store does not work: the run cannot go on.
    Store(Error),
    /// The pack is not there.
    Missing(String),
    /// The pack is too short, or what came is not what should be there.
    Bad(String),
}

impl Fault {
    /// Sorts what a read answered.
    pub(super) fn of(error: Error) -> Fault {
        if error.is(code::storage::OBJECT) {
            Fault::Missing(error.to_string())
        } else if error.is(code::storage::CORRUPT) {
            Fault::Bad(error.to_string())
        } else {
            Fault::Store(error)
        }
    }
}

/// Reads a range of a pack; a short answer is a fault.
pub(super) async fn range(deployment: &Deployment, pack: PackId, bytes: Range<u64>) -> Result<Bytes, Fault> {
    let key = layout::pack(deployment.name(), &pack.writer, pack.sequence);
    let length = bytes.end.saturating_sub(bytes.start);
    let found = deployment.store().get_range(&key, bytes).await.map_err(Fault::of)?;
    if found.len() as u64 == length {
        Ok(found)
    } else {
        Err(Fault::Bad(format!(
            "the store gave {} of {length} bytes of {key}",
            found.len()
        )))
    }
}

/// Where a frame lies in its pack, header included.
pub(super) fn span(at: &FrameAt) -> Range<u64> {
    let length = crate::pack::FRAME_HEADER_LEN as u64 + u64::from(at.stored_len);
    at.offset..at.offset.saturating_add(length)
}

/// The object that holds a pack, for messages.
pub(super) fn object(deployment: &Deployment, pack: PackId) -> String {
    layout::pack(deployment.name(), &pack.writer, pack.sequence)
        .as_str()
        .to_owned()
}
