//! Fetching values: the raw bytes of a few frames, one behind the other.

use hardstorage_codec::equal;
use hardstorage_report::{Error, Result, code};

use super::{FRAME_HEADER_LEN, FrameReader};
use crate::{Deployment, FrameAt, Root, layout};

/// A frame to fetch: its place, and its hash unless something else vouches for it.
pub(crate) type Wanted = (FrameAt, Option<[u8; 16]>);

// A value larger than this is read in several requests even when its frames lie side by side.
const LARGEST_READ: u64 = 8 << 20;

/// Reads frames in order and appends their raw bytes to each other. Frames that lie side by side are one request.
pub(crate) async fn fetch_frames(deployment: &Deployment, wanted: &[Wanted]) -> Result<Vec<u8>> {
    let end = |at: &FrameAt| {
        at.offset
            .saturating_add(FRAME_HEADER_LEN as u64 + u64::from(at.stored_len))
    };
    let mut rest = wanted;
    let mut value = Vec::new();
    while let Some((first, _)) = rest.first() {
        let mut count = 1;
        let mut until = end(first);
        while let Some((next, _)) = rest.get(count) {
            if next.pack != first.pack || next.offset != until || end(next) - first.offset > LARGEST_READ {
                break;
            }
            until = end(next);
            count += 1;
        }
        let (these, others) = rest.split_at(count);
        rest = others;
        let key = layout::pack(deployment.name(), &first.pack.writer, first.pack.sequence);
        let stored = deployment.store().get_range(&key, first.offset..until).await?;
        let (these, start, data_key) = (these.to_vec(), first.offset, deployment.key().clone());
        // Opening is work for the processor, which the threads of the runtime do not do.
        let opened = tokio::task::spawn_blocking(move || {
            let mut reader = FrameReader::new(&data_key);
            let (mut raw, mut frame) = (Vec::new(), Vec::new());
            for (at, hash) in &these {
                let range = (at.offset - start) as usize..(end(at) - start) as usize;
                let bytes = stored.get(range).unwrap_or_default();
                reader.open(at, hash.as_ref(), bytes, &mut frame)?;
                raw.extend_from_slice(&frame);
            }
            Ok::<_, Error>(raw)
        });
        let raw = opened.await.map_err(|error| {
            Error::new(code::repository::OBJECT_CORRUPT, format!("open frames of object {key}")).source(error)
        })??;
        if value.is_empty() {
            value = raw;
        } else {
            value.extend_from_slice(&raw);
        }
    }
    Ok(value)
}

/// Reads the value of a root and checks its hash; `what` names it in messages.
pub(crate) async fn fetch_root(deployment: &Deployment, root: &Root, what: &str) -> Result<Vec<u8>> {
    let wanted: Vec<Wanted> = root.frames.iter().map(|at| (*at, None)).collect();
    let value = fetch_frames(deployment, &wanted)
        .await
        .map_err(|error| error.context(format!("read the {what}")))?;
    let hash = deployment.key().root_hash().hash256(&value);
    if value.len() as u64 == root.length && equal(&hash, &root.hash) {
        Ok(value)
    } else {
        Err(Error::new(
            code::repository::OBJECT_CORRUPT,
            format!("the {what} does not match the hash in the manifest"),
        ))
    }
}
