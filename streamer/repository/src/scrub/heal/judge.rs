//! Whether an object is whole, here or in hand: read through with this repository's own keys, by the code that reads it in
//! earnest.

use bytes::Bytes;
use hardstorage_report::Result;
use hardstorage_storage::{Key, ObjectMeta};

use super::super::{pack, small, why_unread};
use super::Class;
use super::with::With;
use crate::{Deployment, EnvelopeKind, wal};

/// What an object turned out to be.
#[derive(Debug)]
pub(super) enum Verdict {
    Whole,
    Gone,
    Bad(String),
}

/// Whether an object stays as it was written until retention lets it go. The others come and go with what runs.
pub(super) fn lasts(class: &Class) -> bool {
    !matches!(
        class,
        Class::Strange | Class::Envelope(EnvelopeKind::Session | EnvelopeKind::Damage | EnvelopeKind::Scrub)
    )
}

/// What seems bad is read once more: a transfer may have gone wrong.
pub(super) async fn judge_twice(deployment: &Deployment, class: &Class, object: &ObjectMeta) -> Result<Verdict> {
    match judge(deployment, class, object).await? {
        Verdict::Bad(_) => judge(deployment, class, object).await,
        other => Ok(other),
    }
}

/// Bytes as if they lay under their name.
pub(super) async fn judge_bytes(deployment: &Deployment, class: &Class, key: &Key, bytes: Bytes) -> Result<Verdict> {
    let object = ObjectMeta {
        key: key.clone(),
        size: bytes.len() as u64,
        modified: None,
    };
    let over = deployment.over(With::store(deployment.store(), key, bytes));
    judge(&over, class, &object).await
}

/// Reads an object through. An error is a store that does not work.
pub(super) async fn judge(deployment: &Deployment, class: &Class, object: &ObjectMeta) -> Result<Verdict> {
    let error = match read(deployment, class, object).await {
        Ok(verdict) => return Ok(verdict),
        Err(error) => error,
    };
    let why = why_unread(deployment.store(), &object.key, error).await?;
    Ok(why.map_or(Verdict::Gone, Verdict::Bad))
}

async fn read(deployment: &Deployment, class: &Class, object: &ObjectMeta) -> Result<Verdict> {
    match class {
        Class::Pack(id) => {
            let found = pack::check(deployment, *id, object.size).await?;
            return Ok(found.map_or(Verdict::Whole, |bad| Verdict::Bad(bad.reason)));
        }
        Class::Wal(named) => wal::check_sealed(deployment, &object.key, object.size, named).await?,
        _ => {
            let Some(stored) = deployment.store().get(&object.key).await? else {
                return Ok(Verdict::Gone);
            };
            small::check(deployment, class, &object.key, &stored).await?;
            small::says_its_name(deployment.name(), class, &object.key, &stored)?;
        }
    }
    Ok(Verdict::Whole)
}
