//! How one object is replaced in a store that only creates.
//!
//! A damaged pack still has frames that are whole, so it must not go before all of its bytes are here a second time:
//!
//! 1. the good bytes are created under `heal/<name>`, durable;
//! 2. the damaged object is read once more, and removed only if it is still damaged;
//! 3. the good bytes are created under their name, durable, and read back through the store;
//! 4. `heal/<name>` is removed.
//!
//! Whoever dies in between leaves the damaged object, or the good bytes, or both: the next run goes on with what lies in
//! `heal/`, also when the copy is gone by then. Between 2 and 3 the name is not there; a reader that comes then fails as it
//! did with the damaged one. What is missing from the beginning needs 3 alone.

use bytes::Bytes;
use hardstorage_report::{Error, Result, code};
use hardstorage_storage::{Key, ObjectMeta};

use super::Class;
use super::judge::{Verdict, judge, judge_bytes, judge_twice};
use crate::document::{self, Made, corrupt};
use crate::{Deployment, layout};

/// Puts bytes that are known to be good under a name.
pub(super) async fn replace(here: &Deployment, class: &Class, key: &Key, bytes: &Bytes, is_here: bool) -> Result<()> {
    let store = here.store();
    let side = layout::healing(key);
    if is_here {
        if let Made::Theirs(other) = document::create(store, &side, bytes).await? {
            // Another run may have begun from another copy; what it put aside must be as good as ours.
            if !matches!(judge_bytes(here, class, key, other).await?, Verdict::Whole) {
                return Err(
                    corrupt(&side, "another run put it aside, and it is damaged").hint("remove it, and run this again")
                );
            }
        }
        store.sync().await?;
        store.confirm(std::slice::from_ref(&side)).await?;
        if let Some(object) = store.head(key).await?
            && let Verdict::Bad(_) = judge_twice(here, class, &object).await?
        {
            store.delete(key).await?;
            store.sync().await?;
        }
    }
    document::create(store, key, bytes).await?;
    store.sync().await?;
    store.confirm(std::slice::from_ref(key)).await?;
    let stored = ObjectMeta {
        key: key.clone(),
        size: store.head(key).await?.map_or(0, |object| object.size),
        modified: None,
    };
    match judge(here, class, &stored).await? {
        Verdict::Whole => {}
        Verdict::Gone | Verdict::Bad(_) => {
            let message = format!("object {key} was written again, and it is still not what was written");
            return Err(Error::new(code::repository::OBJECT_CORRUPT, message)
                .hint("the disk is not to be trusted: move the repository to another one"));
        }
    }
    if is_here {
        store.delete(&side).await?;
    }
    Ok(())
}
