//! A year, a backup a day.

use super::read_back::must_equal;
use super::*;

/// A year of backups, a day's changes being one page in a hundred at random: what the newest backup keeps alive stays a
/// small multiple of the cluster, and a restore decodes little that it does not need.
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
    let store = Arc::new(MemoryStore::new());
    let deployment = Deployment::for_tests_with(store, "db1", Surroundings::default(), key, config);
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
        let id = [&day.to_le_bytes()[..], &[1; 8]].concat().try_into().unwrap();
        let mut options = WriterOptions::new(WriterId::new(id), PAGE as u32);
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
        last = Some(finished);
    }
    let written = stored as f64 / changed as f64;
    println!("space {space:.2}, decoded {decoded:.2}, written {written:.2} times what changed");
    assert!(space <= 2.5, "{space} times the cluster is kept");
    assert!(decoded <= 1.8, "{decoded} times the cluster is decoded");
    assert!(written <= 1.5, "{written} times the changes are written");
}
