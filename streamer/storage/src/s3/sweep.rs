//! What killed writers left: uploads in parts that nobody completed. They are in no listing of objects, and their parts
//! cost as much as objects do.
//!
//! - Only uploads below the prefix of this store, and only of names that a key can have.
//! - Age is from the beginning of the upload, by the store's own clock; S3 tells no other time of it.
//! - A writer that was only paused gets `NoSuchUpload` for its next part or its completion: an error, and no object.
//! - MinIO lists the uploads of a whole bucket, or of one exact name, and none below a prefix; it removes them by itself
//!   after 24 hours.

use std::sync::Arc;

use aws_sdk_s3::types::{MultipartUpload, Part};
use hardstorage_report::{Error, Result, code};

use super::failure::{failed, is_missing_upload, within};
use super::{Bucket, clock, timestamp};
use crate::{Key, SweepRequest, Swept};

pub(super) async fn sweep(bucket: &Arc<Bucket>, request: &SweepRequest) -> Result<Swept> {
    let now = clock::now(bucket).await?;
    let mut swept = Swept::default();
    for upload in uploads(bucket).await? {
        let (Some(id), Some(initiated)) = (upload.upload_id(), timestamp(upload.initiated())) else {
            continue;
        };
        let path = upload.key().and_then(|path| path.strip_prefix(&bucket.prefix));
        // What is no key was not written by us.
        let Some(key) = path.and_then(|path| Key::new(path).ok()) else {
            continue;
        };
        if !request.takes(key.as_str(), initiated, now.time) {
            continue;
        }
        // `None`: completed or aborted meanwhile.
        let Some(bytes) = bytes_of(bucket, &key, id).await? else {
            continue;
        };
        if request.apply {
            bucket.abort(&key, id).await?;
        }
        swept.count += 1;
        swept.bytes += bytes;
    }
    Ok(swept)
}

/// The right that is needed for this alone is told.
fn refused(error: Error) -> Error {
    if error.is(code::storage::DENIED) {
        error.hint("to find and remove them, the policy needs s3:ListBucketMultipartUploads on the bucket")
    } else {
        error
    }
}

/// A page that says "more" and does not go on would be asked for ever.
fn repeats(doing: &str) -> Error {
    Error::new(code::storage::IO, format!("{doing}: the store repeats a page"))
}

/// All uploads under way below the prefix. There are few: those of running writers, and what killed ones left.
async fn uploads(bucket: &Bucket) -> Result<Vec<MultipartUpload>> {
    let doing = "list unfinished uploads";
    let mut uploads = Vec::new();
    let mut after: Option<(String, Option<String>)> = None;
    loop {
        let (key, id) = after.clone().unzip();
        let request = bucket
            .client
            .list_multipart_uploads()
            .bucket(&bucket.name)
            .set_prefix(Some(bucket.prefix.clone()).filter(|prefix| !prefix.is_empty()))
            .set_key_marker(key)
            .set_upload_id_marker(id.flatten())
            .send();
        let page = match within(0, request).await.map_err(|timeout| timeout.context(doing))? {
            Ok(page) => page,
            Err(error) => return Err(refused(failed(error, doing))),
        };
        bucket.saw();
        let truncated = page.is_truncated() == Some(true);
        let next = page.next_key_marker.map(|key| (key, page.next_upload_id_marker));
        uploads.extend(page.uploads.unwrap_or_default());
        if !truncated {
            return Ok(uploads);
        }
        if next.is_none() || next == after {
            return Err(repeats(doing));
        }
        after = next;
    }
}

/// The bytes of the parts of an upload, 0 where the store does not tell; `None` when it is not there any more.
async fn bytes_of(bucket: &Bucket, key: &Key, id: &str) -> Result<Option<u64>> {
    let doing = format!("list the parts of an unfinished upload of {key}");
    let mut bytes = 0;
    let mut after: Option<String> = None;
    loop {
        let request = bucket
            .client
            .list_parts()
            .bucket(&bucket.name)
            .key(bucket.path(key))
            .upload_id(id)
            .set_part_number_marker(after.clone())
            .send();
        let page = match within(0, request).await.map_err(|timeout| timeout.context(&doing))? {
            Ok(page) => page,
            Err(error) if is_missing_upload(&error) => return Ok(None),
            Err(error) => {
                let error = failed(error, &doing);
                if error.is(code::storage::UNREACHABLE) {
                    return Err(error);
                }
                // Not every server can, and not every policy allows it. To give it back needs no size.
                tracing::info!(%key, %error, "the size of an unfinished upload is not known");
                return Ok(Some(0));
            }
        };
        let sizes = page.parts().iter().filter_map(Part::size);
        bytes += sizes.filter_map(|size| u64::try_from(size).ok()).sum::<u64>();
        if page.is_truncated() != Some(true) {
            return Ok(Some(bytes));
        }
        let next = page.next_part_number_marker;
        if next.is_none() || next == after {
            return Err(repeats(&doing));
        }
        after = next;
    }
}
