//! Listings: complete, in bytewise order, from any place, one level or all.

use super::{Outcome, Room, expect};
use crate::ListRequest;

/// In bytewise order: `-` and `.` sort before `/`, digits and letters after, capitals before small letters.
const NAMES: [&str; 11] = [
    "order/A",
    "order/a-b",
    "order/a.b",
    "order/a/b",
    "order/a/b-c/d",
    "order/a/b/c",
    "order/a/c",
    "order/a0",
    "order/a=",
    "order/aa",
    "order/b",
];

async fn fill(room: &Room) -> Outcome {
    // `a/b` is an object and a folder on some stores, and cannot be both in a directory tree.
    for name in names() {
        if room
            .store
            .head(&room.key(name)?)
            .await
            .map_err(|e| super::describe(&e))?
            .is_none()
        {
            room.put(name, "x").await?;
        }
    }
    Ok(())
}

fn names() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter().filter(|name| *name != "order/a/b")
}

fn full(room: &Room, names: impl IntoIterator<Item = &'static str>) -> Vec<String> {
    names
        .into_iter()
        .map(|name| format!("{}/{name}", room.folder))
        .collect()
}

pub(super) async fn bytewise(room: &Room) -> Outcome {
    fill(room).await?;
    let request = ListRequest::under(format!("{}/order/", room.folder));
    let (objects, folders, _) = room.everything(&request).await?;
    expect("keys", objects, full(room, names()))?;
    expect("folders of a deep listing", folders, Vec::new())?;
    let request = ListRequest::under(format!("{}/order/a/b/", room.folder));
    expect(
        "keys of a folder",
        room.everything(&request).await?.0,
        full(room, ["order/a/b/c"]),
    )?;
    for nothing in ["order/a/b/c/", "order/x/", "nothing/"] {
        let request = ListRequest::under(format!("{}/{nothing}", room.folder));
        expect(nothing, room.everything(&request).await?.0, Vec::new())?;
    }
    for wrong in ["order", "order//", "../", "/"] {
        if room.store.list(&ListRequest::under(wrong)).await.is_ok() {
            return Err(format!("{wrong:?} is listed, and is no folder"));
        }
    }
    Ok(())
}

pub(super) async fn levels(room: &Room) -> Outcome {
    fill(room).await?;
    let level = |folder: &str| ListRequest::level(format!("{}/{folder}", room.folder));
    let (objects, folders, _) = room.everything(&level("order/")).await?;
    let here = [
        "order/A",
        "order/a-b",
        "order/a.b",
        "order/a0",
        "order/a=",
        "order/aa",
        "order/b",
    ];
    expect("keys of one level", objects, full(room, here))?;
    expect("folders of one level", folders, full(room, ["order/a/"]))?;
    let (objects, folders, _) = room.everything(&level("order/a/")).await?;
    expect("keys of the next", objects, full(room, ["order/a/c"]))?;
    expect(
        "folders of the next",
        folders,
        full(room, ["order/a/b-c/", "order/a/b/"]),
    )?;
    // Folders go with their last object.
    room.put("order/gone/x/y", "x").await?;
    room.store
        .delete(&room.key("order/gone/x/y")?)
        .await
        .map_err(|e| super::describe(&e))?;
    expect(
        "folders after a delete",
        room.everything(&level("order/")).await?.1,
        full(room, ["order/a/"]),
    )
}

pub(super) async fn from_any_place(room: &Room) -> Outcome {
    fill(room).await?;
    let all: Vec<&'static str> = names().collect();
    let places = all
        .iter()
        .copied()
        .chain(["order/", "order/a", "order/a/", "order/a/b/", "order/a/~", "order/zzz"]);
    for place in places {
        let place_full = format!("{}/{place}", room.folder);
        let request = ListRequest::under(format!("{}/order/", room.folder)).after(place_full.clone());
        let wanted = full(room, all.iter().copied().filter(|name| *name > place));
        expect(
            &format!("keys after {place}"),
            room.everything(&request).await?.0,
            wanted,
        )?;
    }
    let after_folder =
        ListRequest::level(format!("{}/order/a/", room.folder)).after(format!("{}/order/a/b-c/", room.folder));
    let (objects, folders, _) = room.everything(&after_folder).await?;
    expect("folders after a folder", folders, full(room, ["order/a/b/"]))?;
    expect("keys after a folder", objects, full(room, ["order/a/c"]))
}

pub(super) async fn more_than_a_page(room: &Room) -> Outcome {
    const COUNT: usize = 1100;
    let keys: Vec<String> = (0..COUNT).map(|n| format!("pages/{:02}/{n:04}", n % 2)).collect();
    for batch in keys.chunks(32) {
        futures::future::try_join_all(batch.iter().map(|name| room.put(name, ""))).await?;
    }
    let mut wanted: Vec<String> = keys.iter().map(|name| format!("{}/{name}", room.folder)).collect();
    wanted.sort_unstable();
    let request = ListRequest::under(format!("{}/pages/", room.folder));
    let (objects, _, _) = room.everything(&request).await?;
    if objects != wanted {
        return Err(format!("{} of {} keys, or not in order", objects.len(), wanted.len()));
    }
    let level = ListRequest::level(format!("{}/pages/", room.folder));
    let folders = room.everything(&level).await?.1;
    expect("folders over a page", folders, full(room, ["pages/00/", "pages/01/"]))?;
    let level = ListRequest::level(format!("{}/pages/01/", room.folder));
    expect("keys of one of them", room.everything(&level).await?.0.len(), COUNT / 2)
}
