//! A year, a backup a day.

use hardstorage_codec::SigningKey;
use hardstorage_report::BackupId;
use hardstorage_storage::{ListRequest, Store as _};

use super::read_back::must_equal;
use super::*;
use crate::manifest::samples;
use crate::{Action, BackupState, CollectOptions, ExpectedPack, Opening, Purpose, Session, collect};

fn id(day: u64) -> BackupId {
    format!("db1.full.20260101T000000Z.{day:04x}").parse().unwrap()
}

/// Commits a day's backup, marks the one before as deleted, and collects.
async fn replace(deployment: &Deployment, signer: &SigningKey, session: Session, day: u64, finished: &Finished) {
    let mut manifest = samples::of(deployment, signer, id(day).as_str(), day as i64 * 86_400);
    manifest.writer.id = session.writer();
    manifest.wal.stop_lsn = manifest.wal.start_lsn;
    (manifest.file_table, manifest.pack_list) = (finished.file_table.clone(), finished.pack_list.clone());
    let packs = finished.packs.iter().filter(|pack| !pack.holds_the_list());
    let packs = packs.map(|pack| ExpectedPack {
        pack: pack.id,
        length: pack.length,
    });
    manifest.commit(deployment, signer, packs).await.unwrap();
    session.close().await.unwrap();
    if let Some(before) = day.checked_sub(1) {
        let action = Action::Delete { reason: "old".into() };
        BackupState::change(deployment, &id(before), action).await.unwrap();
    }
    let options = CollectOptions {
        apply: true,
        grace: std::time::Duration::ZERO,
        reader_grace: std::time::Duration::ZERO,
        ..CollectOptions::default()
    };
    let done = collect(deployment, &options).await.unwrap();
    assert!(done.problems.is_empty(), "{done:?}");
}

/// Bytes and objects under a folder.
async fn stored_under(store: &MemoryStore, folder: &str) -> (u64, usize) {
    let listing = store.list(&ListRequest::under(folder)).await.unwrap();
    assert!(listing.next.is_none(), "more than a page of {folder}");
    let bytes = listing.objects.iter().map(|object| object.size).sum();
    (bytes, listing.objects.len())
}

/// A year of backups, a day's changes being one page in a hundred at random: what the newest backup keeps alive stays a
/// small multiple of the cluster, what it does not is collected, and a restore decodes little that it does not need.
#[tokio::test(flavor = "multi_thread")]
async fn a_year_of_changes_stays_within_bounds() {
    // As many pages in a frame as there are in life; packs and cluster are smaller.
    const PAGE: usize = 512;
    const PAGES: usize = 6000;
    let config = RepoConfig {
        frame_size: 32 * PAGE as u32,
        changed_frame_size: 128 * PAGE as u32,
        pack_size: 200 * PAGE as u64,
        ..RepoConfig::default()
    };
    let key = DataKey::new(Secret::new([5; 32]), [6; 16], 1, true);
    let store = Arc::new(MemoryStore::new().with_page(1 << 20));
    let deployment = Deployment::for_tests_with(store.clone(), "db1", Surroundings::default(), key, config);
    let signer = SigningKey::new(&Secret::new([6; 32]));
    deployment.register_signer(&signer.public()).await.unwrap();
    let (mut first, mut most) = (0, 0f64);
    let mut files = [noise(1, PAGES / 2 * PAGE), noise(2, PAGES / 2 * PAGE)];
    let mut last: Option<Finished> = None;
    let (mut space, mut decoded, mut changed, mut stored) = (0f64, 0f64, 0, 0);
    for day in 0..365u64 {
        for change in 0..PAGES as u64 / 100 {
            let new = noise(day * 1000 + change + 10, PAGE);
            let random = u64::from_le_bytes(new[32..40].try_into().unwrap()) as usize >> 16;
            let at = random / 2 % (PAGES / 2) * PAGE;
            files[random % 2][at..at + PAGE].copy_from_slice(&new);
        }
        let [one, other] = files.clone();
        let tree = Tree::from([("base/0".to_owned(), Some(one)), ("base/1".to_owned(), Some(other))]);
        let purpose = Purpose::Backup { backup_id: id(day) };
        let session = Session::open(&deployment, Opening::new(purpose)).await.unwrap();
        let mut options = WriterOptions::new(session.writer(), PAGE as u32);
        options.memory = 1 << 20;
        if let Some(last) = &last {
            options.ancestor = Some(open(&deployment, last).await.unwrap());
        }
        let mut writer = BackupWriter::begin(&deployment, options).await.unwrap();
        send(&mut writer, &tree, 64 << 10).await.unwrap();
        let finished = writer.finish().await.unwrap();
        if day > 0 {
            changed += PAGES as u64 / 100;
            stored += finished.totals.new_pages;
        }
        let packs = finished.packs.iter();
        let data = packs.filter(|pack| pack.kind == PackKind::Data && pack.live > 0);
        let kept: u64 = data.map(|pack| pack.total).sum();
        space = space.max(kept as f64 / PAGES as f64);
        if day % 26 == 0 {
            let read = must_equal(&deployment, &finished, &tree).await;
            let frames: usize = read.frame_lens.values().sum();
            decoded = decoded.max(frames as f64 / (PAGES * PAGE) as f64);
        }
        replace(&deployment, &signer, session, day, &finished).await;
        let (bytes, _) = stored_under(&store, "packs/").await;
        first = if day == 0 { bytes } else { first };
        most = most.max(bytes as f64 / first as f64);
        last = Some(finished);
    }
    let (_, manifests) = stored_under(&store, "manifests/").await;
    let (_, sessions) = stored_under(&store, "sessions/").await;
    let (_, packs) = stored_under(&store, "packs/").await;
    println!(
        "stored {most:.2} times the first backup; {packs} packs, {sessions} sessions, {manifests} below manifests/"
    );
    assert!(most <= 2.5, "{most} times the first backup is stored");
    assert_eq!(manifests, 365, "a marker of each that is gone, and the newest");
    assert!(
        sessions <= packs,
        "a session for each writer that still has packs, at most"
    );
    let written = stored as f64 / changed as f64;
    println!("space {space:.2}, decoded {decoded:.2}, written {written:.2} times what changed");
    assert!(space <= 2.5, "{space} times the cluster is kept");
    assert!(decoded <= 1.8, "{decoded} times the cluster is decoded");
    assert!(written <= 1.5, "{written} times the changes are written");
}
