//! Objects that grow, on the stores that have them: only longer, only by their one writer.

use bytes::Bytes;
use hardstorage_report::code;

use super::{Outcome, Room, describe, expect, pattern};
use crate::{Created, Growing};

/// The object begins with these bytes, and zeros follow.
async fn holds(room: &Room, name: &str, bytes: &[u8]) -> Outcome {
    let seen = room.store.get(&room.key(name)?).await.map_err(|e| describe(&e))?;
    let seen = seen.ok_or_else(|| format!("{name} is not there"))?;
    let head = room.store.head(&room.key(name)?).await.map_err(|e| describe(&e))?;
    expect("its size", head.map(|head| head.size), Some(seen.len() as u64))?;
    match seen.strip_prefix(bytes) {
        Some(rest) if rest.iter().all(|byte| *byte == 0) => Ok(()),
        Some(_) => Err(format!("something that is no zero lies behind the bytes of {name}")),
        None => Err(format!("{name} does not hold what was written")),
    }
}

async fn begin(room: &Room, name: &str, first: &Bytes) -> Result<Option<Box<dyn Growing>>, String> {
    let growing = room.store.grow_new(&room.key(name)?, first.clone()).await;
    growing.map_err(|e| describe(&e))
}

pub(super) async fn grows(room: &Room) -> Outcome {
    let body = pattern(3_300_000, 5);
    let (key, mut end) = (room.key("growing/a")?, 700);
    let Some(mut growing) = begin(room, "growing/a", &body.slice(..end)).await? else {
        let there = room.store.get(&key).await.map_err(|e| describe(&e))?;
        return expect("what was not begun", there, None);
    };
    holds(room, "growing/a", &body[..end]).await?;
    for cut in [1, 1_048_000, 77, 3, 2_100_000] {
        let bytes = body.slice(end..end + cut);
        growing.append(bytes.clone()).await.map_err(|e| describe(&e))?;
        end += cut;
        holds(room, "growing/a", &body[..end]).await?;
        let range = (end - cut) as u64..end as u64;
        let last = room.store.get_range(&key, range).await.map_err(|e| describe(&e))?;
        expect("what came last", last, bytes)?;
    }
    room.store.confirm(&[key]).await.map_err(|e| describe(&e))
}

pub(super) async fn grows_alone(room: &Room) -> Outcome {
    let first = Bytes::from_static(b"first");
    let (key, other) = (room.key("growing/b")?, room.key("growing/c")?);
    let Some(mut growing) = begin(room, "growing/b", &first).await? else {
        return Ok(());
    };
    if room.store.grow_new(&key, first.clone()).await.is_ok() {
        return Err("a second writer lets it grow".to_owned());
    }
    let put = room.store.put_new(&key, Bytes::from_static(b"x")).await;
    expect("a put_new over it", put.map_err(|e| describe(&e))?, Created::Exists)?;
    room.put("growing/c", "there before").await?;
    if room.store.grow_new(&other, first).await.is_ok() {
        return Err("it takes the name of another object".to_owned());
    }
    let there = room.store.get(&other).await.map_err(|e| describe(&e))?;
    expect("the other object", there, Some(Bytes::from_static(b"there before")))?;
    holds(room, "growing/b", b"first").await?;
    room.store.delete(&key).await.map_err(|e| describe(&e))?;
    match growing.append(Bytes::from_static(b"second")).await {
        Ok(()) => Err("an object that was removed grows on".to_owned()),
        Err(error) => expect("the code for one that was removed", error.code(), code::storage::OBJECT),
    }
}
