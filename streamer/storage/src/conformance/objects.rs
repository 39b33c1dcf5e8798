//! Single objects: created once, read exactly, removed.

use bytes::Bytes;
use hardstorage_report::code;

use super::{Outcome, Room, describe, expect, pattern};
use crate::{Created, Key, ListRequest};

pub(super) async fn created_once(room: &Room) -> Outcome {
    let key = room.key("once/a")?;
    let store = &room.store;
    expect("get before", store.get(&key).await.map_err(|e| describe(&e))?, None)?;
    room.put("once/a", "first").await?;
    for body in ["first", "second", ""] {
        let again = store
            .put_new(&key, Bytes::from_static(body.as_bytes()))
            .await
            .map_err(|e| describe(&e))?;
        expect("a second put_new", again, Created::Exists)?;
    }
    let body = store.get(&key).await.map_err(|e| describe(&e))?;
    expect("its content", body, Some(Bytes::from_static(b"first")))?;
    // Names that differ in their last byte, or that another begins with, are other names.
    room.put("once/aa", "2").await?;
    room.put("once/A", "3").await?;
    room.put("once/a.b=c_d-e", "4").await
}

pub(super) async fn empty_object(room: &Room) -> Outcome {
    room.put("empty", "").await?;
    let key = room.key("empty")?;
    let body = room.store.get(&key).await.map_err(|e| describe(&e))?;
    expect("an empty object", body, Some(Bytes::new()))?;
    let range = room.store.get_range(&key, 0..0).await.map_err(|e| describe(&e))?;
    expect("nothing of it", range, Bytes::new())?;
    let head = room.store.head(&key).await.map_err(|e| describe(&e))?;
    expect("its size", head.map(|head| head.size), Some(0))?;
    let again = room
        .store
        .put_new(&key, Bytes::from_static(b"x"))
        .await
        .map_err(|e| describe(&e))?;
    expect("a put_new over it", again, Created::Exists)
}

pub(super) async fn exact_ranges(room: &Room) -> Outcome {
    let body = pattern(300_000, 1);
    room.put("ranges", body.clone()).await?;
    let key = room.key("ranges")?;
    for range in [
        0..1,
        0..300_000,
        299_999..300_000,
        7..8192,
        131_071..131_073,
        5..5,
        300_000..300_000,
    ] {
        let seen = room
            .store
            .get_range(&key, range.clone())
            .await
            .map_err(|e| format!("{range:?}: {}", describe(&e)))?;
        let wanted = body.get(range.start as usize..range.end as usize).unwrap_or_default();
        if seen != wanted {
            return Err(format!("bytes {range:?} are not the object's"));
        }
    }
    for range in [
        0..300_001,
        299_999..300_001,
        300_000..300_001,
        400_000..400_010,
        400_000..400_000,
    ] {
        match room.store.get_range(&key, range.clone()).await {
            Ok(bytes) => return Err(format!("bytes {range:?} of 300000 give {} bytes", bytes.len())),
            Err(error) => expect(
                "the code for a range beyond the end",
                error.code(),
                code::storage::CORRUPT,
            )?,
        }
    }
    match room.store.get_range(&room.key("ranges-missing")?, 0..1).await {
        Ok(_) => Err("a range of a missing object gives bytes".to_owned()),
        Err(error) => expect(
            "the code for a range of a missing object",
            error.code(),
            code::storage::OBJECT,
        ),
    }
}

pub(super) async fn heads(room: &Room) -> Outcome {
    room.put("head/a", pattern(12_345, 2)).await?;
    let key = room.key("head/a")?;
    let head = room.store.head(&key).await.map_err(|e| describe(&e))?;
    expect("head", head.map(|head| (head.key, head.size)), Some((key, 12_345)))?;
    for missing in ["head/b", "hea", "head/a/b", "head/a.tmp"] {
        let head = room.store.head(&room.key(missing)?).await.map_err(|e| describe(&e))?;
        expect(missing, head, None)?;
        let body = room.store.get(&room.key(missing)?).await.map_err(|e| describe(&e))?;
        expect(missing, body, None)?;
    }
    Ok(())
}

pub(super) async fn deleted(room: &Room) -> Outcome {
    let key = room.key("delete/x/y")?;
    room.put("delete/x/y", "1").await?;
    room.put("delete/x/z", "2").await?;
    let store = &room.store;
    expect("delete", store.delete(&key).await.map_err(|e| describe(&e))?, true)?;
    expect(
        "a second delete",
        store.delete(&key).await.map_err(|e| describe(&e))?,
        false,
    )?;
    expect(
        "get after delete",
        store.get(&key).await.map_err(|e| describe(&e))?,
        None,
    )?;
    let other = store.get(&room.key("delete/x/z")?).await.map_err(|e| describe(&e))?;
    expect("its neighbour", other, Some(Bytes::from_static(b"2")))?;
    room.put("delete/x/y", "3").await?;
    let body = store.get(&key).await.map_err(|e| describe(&e))?;
    expect("the name used again", body, Some(Bytes::from_static(b"3")))
}

/// A folder is no object, whatever a directory tree underneath has at that place.
pub(super) async fn folder_names(room: &Room) -> Outcome {
    room.put("folder/x/y", "1").await?;
    for name in ["folder", "folder/x"] {
        let key = room.key(name)?;
        expect(name, room.store.get(&key).await.map_err(|e| describe(&e))?, None)?;
        expect(name, room.store.head(&key).await.map_err(|e| describe(&e))?, None)?;
        expect(name, room.store.delete(&key).await.map_err(|e| describe(&e))?, false)?;
    }
    let body = room
        .store
        .get(&room.key("folder/x/y")?)
        .await
        .map_err(|e| describe(&e))?;
    expect("what is in it", body, Some(Bytes::from_static(b"1")))
}

/// 64 tasks, each with its own object, all at once.
pub(super) async fn many_at_once(room: &Room) -> Outcome {
    let one = |number: u64| async move {
        let name = format!("many/{}/{number}", number % 7);
        let body = pattern(1000 + number as usize, number);
        room.put(&name, body.clone()).await?;
        let seen = room.store.get(&room.key(&name)?).await.map_err(|e| describe(&e))?;
        if seen.as_ref() == Some(&body) {
            Ok(())
        } else {
            Err(format!("{name} holds other bytes"))
        }
    };
    futures::future::try_join_all((0..64).map(one)).await.map(drop)
}

pub(super) async fn sync_and_clock(room: &Room) -> Outcome {
    room.put("sync/a/b/c", "x").await?;
    room.store.sync().await.map_err(|e| describe(&e))?;
    room.store.sync().await.map_err(|e| describe(&e))?;
    let first = room.store.clock().await.map_err(|e| describe(&e))?;
    let second = room.store.clock().await.map_err(|e| describe(&e))?;
    // A backup tool of this century; a store whose clock is unset cannot measure silence.
    if second < first || first.as_second() < 1_600_000_000 {
        return Err(format!("the clock says {first}, then {second}"));
    }
    Ok(())
}

/// Names found by a listing can be made durable, by their writer or by anyone; a name that is not there cannot.
pub(super) async fn confirmed(room: &Room) -> Outcome {
    room.put("confirm/a/b", "1").await?;
    room.put("confirm/c", "2").await?;
    let request = ListRequest::under(format!("{}/confirm/", room.folder));
    let found = room.store.list(&request).await.map_err(|e| describe(&e))?;
    let mut keys: Vec<Key> = found.objects.into_iter().map(|object| object.key).collect();
    expect("keys found", keys.len(), 2)?;
    for keys in [&keys[..], &keys[..1], &[]] {
        room.store.confirm(keys).await.map_err(|e| describe(&e))?;
    }
    if room.store.caps().remote {
        return Ok(());
    }
    for missing in ["confirm/d", "confirm/a", "confirm/c/d"] {
        keys.push(room.key(missing)?);
        match room.store.confirm(&keys).await {
            Ok(()) => return Err(format!("{missing} is confirmed, and is not there")),
            Err(error) => expect(
                "the code for confirming a missing object",
                error.code(),
                code::storage::OBJECT,
            )?,
        }
        keys.pop();
    }
    // Nothing was broken by that.
    room.store.confirm(&keys).await.map_err(|e| describe(&e))
}
