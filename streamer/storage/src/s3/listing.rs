//! Listing a bucket: ListObjectsV2 with a start key, so that a page needs nothing of the one before.

use std::sync::Arc;

use hardstorage_report::{Error, Result, code};

use super::failure::{failed, within};
use super::{Bucket, timestamp};
use crate::{Key, ListRequest, Listing, ObjectMeta};

const PAGE: i32 = 1000;

pub(super) async fn list(bucket: &Arc<Bucket>, request: &ListRequest) -> Result<Listing> {
    request.folder()?;
    let prefix = format!("{}{}", bucket.prefix, request.prefix);
    let doing = format!("list {}", request.prefix);
    let after = request.after.as_deref().map(|after| {
        // No key has a byte above `z`: this passes a whole folder, which would else be named again for its next key.
        let rest = if request.shallow && after.ends_with('/') {
            "~"
        } else {
            ""
        };
        format!("{}{after}{rest}", bucket.prefix)
    });
    let call = bucket
        .client
        .list_objects_v2()
        .bucket(&bucket.name)
        .set_prefix(Some(prefix).filter(|prefix| !prefix.is_empty()))
        .set_delimiter(request.shallow.then(|| "/".to_owned()))
        .set_start_after(after)
        .max_keys(PAGE)
        .customize()
        .interceptor(bucket.listener())
        .send();
    let page = match within(0, call).await.map_err(|timeout| timeout.context(&doing))? {
        Ok(page) => page,
        Err(error) => return Err(failed(error, &doing)),
    };
    bucket.saw();

    let relative = |path: &str| path.strip_prefix(&bucket.prefix).map(str::to_owned);
    let passed = |name: &str| request.after.as_deref().is_some_and(|after| name <= after);
    let mut listing = Listing::default();
    let mut last: Option<String> = None;
    let mut previous: Option<&str> = None;
    for object in page.contents() {
        let path = object.key().unwrap_or_default();
        if previous.is_some_and(|previous| path <= previous) {
            // Everything that reads the newest or the next object depends on the order.
            return Err(Error::new(
                code::storage::IO,
                format!("{doing}: the store does not list in the order of keys"),
            ));
        }
        previous = Some(path);
        let Some(name) = relative(path) else { continue };
        if last.as_deref().is_none_or(|last| last < name.as_str()) {
            last = Some(name.clone());
        }
        // What is no key was not written by us.
        if let (Ok(key), Some(size)) = (
            Key::new(name.as_str()),
            object.size().and_then(|size| u64::try_from(size).ok()),
        ) && !passed(&name)
        {
            listing.objects.push(ObjectMeta {
                key,
                size,
                modified: timestamp(object.last_modified()),
            });
        }
    }
    for folder in page.common_prefixes() {
        let Some(name) = folder.prefix().and_then(relative) else {
            continue;
        };
        if last.as_deref().is_none_or(|last| last < name.as_str()) {
            last = Some(name.clone());
        }
        if name.strip_suffix('/').is_some_and(|folder| Key::new(folder).is_ok()) && !passed(&name) {
            listing.folders.push(name);
        }
    }
    listing.folders.sort_unstable();
    if page.is_truncated() == Some(true) {
        // A page that says "more" and does not go on would be asked for ever.
        let onward = last.filter(|last| !passed(last));
        listing.next =
            Some(onward.ok_or_else(|| Error::new(code::storage::IO, format!("{doing}: the store repeats a page")))?);
    }
    Ok(listing)
}
