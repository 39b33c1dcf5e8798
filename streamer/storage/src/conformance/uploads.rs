//! Uploads in parts: whole or not at all, and never over another object.

use bytes::Bytes;

use super::{Outcome, Room, describe, expect, pattern};
use crate::{Created, ListRequest};

async fn upload(room: &Room, name: &str, body: &Bytes, pieces: &[usize]) -> Result<Created, String> {
    let mut upload = room
        .store
        .upload_new(&room.key(name)?)
        .await
        .map_err(|e| describe(&e))?;
    let mut rest = body.clone();
    let mut sizes = pieces.iter().cycle();
    while !rest.is_empty() {
        let size = sizes.next().copied().unwrap_or(rest.len()).min(rest.len());
        upload.write(rest.split_to(size)).await.map_err(|e| describe(&e))?;
    }
    upload.finish().await.map_err(|e| describe(&e))
}

async fn holds(room: &Room, name: &str, body: &Bytes) -> Outcome {
    let key = room.key(name)?;
    let head = room.store.head(&key).await.map_err(|e| describe(&e))?;
    expect("its size", head.map(|head| head.size), Some(body.len() as u64))?;
    let seen = room.store.get(&key).await.map_err(|e| describe(&e))?;
    if seen.as_ref() == Some(body) {
        Ok(())
    } else {
        Err(format!("{name} holds other bytes"))
    }
}

pub(super) async fn small_and_empty(room: &Room) -> Outcome {
    for (name, size) in [("upload/empty", 0), ("upload/one", 1), ("upload/small", 70_000)] {
        let body = pattern(size, 3);
        expect(name, upload(room, name, &body, &[999]).await?, Created::Created)?;
        holds(room, name, &body).await?;
        expect(name, upload(room, name, &body, &[999]).await?, Created::Exists)?;
    }
    Ok(())
}

/// 66 MiB in the frames that a packer gives.
pub(super) async fn large(room: &Room) -> Outcome {
    let body = pattern(66 << 20, 4);
    let created = upload(room, "upload/large", &body, &[256 << 10, 100_001, 1 << 20]).await?;
    expect("an upload", created, Created::Created)?;
    holds(room, "upload/large", &body).await?;
    let middle = 33_333_333..44_444_444;
    let seen = room
        .store
        .get_range(&room.key("upload/large")?, middle.start as u64..middle.end as u64)
        .await;
    let seen = seen.map_err(|e| describe(&e))?;
    if Some(&seen[..]) == body.get(middle) {
        Ok(())
    } else {
        Err("a range over parts holds other bytes".to_owned())
    }
}

/// Pieces smaller, equal and larger than the parts of any store.
pub(super) async fn parts_of_any_size(room: &Room) -> Outcome {
    let body = pattern(27 << 20, 5);
    let cuts: [&[usize]; 4] = [&[8 << 20], &[20 << 20, 1], &[1, 16 << 20, 3], &[27 << 20]];
    for (number, pieces) in cuts.into_iter().enumerate() {
        let name = format!("upload/cut-{number}");
        expect(&name, upload(room, &name, &body, pieces).await?, Created::Created)?;
        holds(room, &name, &body).await?;
    }
    Ok(())
}

pub(super) async fn abandoned_are_invisible(room: &Room) -> Outcome {
    let body = pattern(20 << 20, 6);
    let key = room.key("abandoned/a")?;
    for way in ["aborted", "dropped", "finished"] {
        let mut upload = room.store.upload_new(&key).await.map_err(|e| describe(&e))?;
        upload.write(body.clone()).await.map_err(|e| describe(&e))?;
        expect(
            "head in mid-upload",
            room.store.head(&key).await.map_err(|e| describe(&e))?,
            None,
        )?;
        let request = ListRequest::under(format!("{}/abandoned/", room.folder));
        expect(
            "a listing in mid-upload",
            room.everything(&request).await?.0,
            Vec::new(),
        )?;
        match way {
            "aborted" => upload.abort().await.map_err(|e| describe(&e))?,
            "dropped" => drop(upload),
            _ => expect(
                "finish",
                upload.finish().await.map_err(|e| describe(&e))?,
                Created::Created,
            )?,
        }
        let there = room.store.get(&key).await.map_err(|e| describe(&e))?;
        expect(way, there.is_some(), way == "finished")?;
    }
    Ok(())
}

/// An upload that was begun first and ends last finds the name taken, and the other way round.
pub(super) async fn never_replace(room: &Room) -> Outcome {
    for size in [10, 20 << 20] {
        let body = pattern(size, 7);
        let name = format!("upload/late-{size}");
        let mut late = room
            .store
            .upload_new(&room.key(&name)?)
            .await
            .map_err(|e| describe(&e))?;
        late.write(body.clone()).await.map_err(|e| describe(&e))?;
        room.put(&name, "first").await?;
        expect(
            "the late one",
            late.finish().await.map_err(|e| describe(&e))?,
            Created::Exists,
        )?;
        holds(room, &name, &Bytes::from_static(b"first")).await?;
        expect(
            "one more",
            upload(room, &name, &body, &[1 << 20]).await?,
            Created::Exists,
        )?;

        let name = format!("upload/early-{size}");
        expect(
            "the early one",
            upload(room, &name, &body, &[3 << 20]).await?,
            Created::Created,
        )?;
        let put = room
            .store
            .put_new(&room.key(&name)?, Bytes::from_static(b"late"))
            .await
            .map_err(|e| describe(&e))?;
        expect("a put after an upload", put, Created::Exists)?;
        holds(room, &name, &body).await?;
    }
    Ok(())
}
