//! What the spool gives, keeps and removes.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
use super::*;
use hardstorage_report::SystemId;

const MIB: u64 = 1 << 20;

fn size() -> SegmentSize {
    SegmentSize::new(MIB).unwrap()
}

fn segment(number: u32) -> SegmentName {
    format!("0000000100000000{number:08X}").parse().unwrap()
}

fn spool_of(root: &Path, incarnation: u16, follow: Option<Timeline>) -> Spool {
    let lineage = Lineage {
        system_id: SystemId(7),
        incarnation,
    };
    Spool::new(root, lineage, follow, 4)
}

fn spool(root: &Path) -> Spool {
    spool_of(root, 1, Some(Timeline(1)))
}

fn put(spool: &Spool, name: SegmentName, fill: u8) {
    let lock = spool.lock().unwrap().unwrap();
    let mut entry = spool.begin(&lock, name).unwrap();
    for _ in 0..4 {
        entry.write(&vec![fill; 256 << 10]).unwrap();
    }
    entry.finish().unwrap();
}

fn present(spool: &Spool, number: u32) -> bool {
    spool.missing(vec![segment(number)]).unwrap().is_empty()
}

/// What a power cut or a bad disk makes of a file.
fn damage(spool: &Spool, change: impl Fn(&mut Vec<u8>)) {
    for (.., path) in spool.entries().unwrap() {
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn a_whole_file_is_moved() {
    let root = tempfile::tempdir().unwrap();
    let spool = spool(root.path());
    let destination = root.path().join("RECOVERYXLOG");
    assert!(spool.take(segment(1), &destination).unwrap().is_none(), "no spool yet");
    put(&spool, segment(1), 7);
    assert_eq!(spool.take(segment(1), &destination).unwrap(), Some(size()));
    assert_eq!(fs::read(&destination).unwrap(), vec![7; MIB as usize]);
    assert!(!present(&spool, 1));
    assert!(spool.take(segment(1), &destination).unwrap().is_none(), "given once");
}

#[test]
fn a_torn_one_is_removed_and_nothing_of_it_is_given() {
    let changes: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes.truncate(300_000),
        Vec::clear,
        |bytes| bytes[MIB as usize - 1] ^= 1,
        |bytes| bytes.push(0),
    ];
    for change in changes {
        let root = tempfile::tempdir().unwrap();
        let spool = spool(root.path());
        put(&spool, segment(1), 7);
        damage(&spool, change);
        let destination = root.path().join("RECOVERYXLOG");
        assert!(spool.take(segment(1), &destination).unwrap().is_none());
        assert!(!destination.exists());
        assert!(!present(&spool, 1));
    }
}

#[test]
fn only_the_window_is_kept() {
    let root = tempfile::tempdir().unwrap();
    let spool = spool(root.path());
    for number in [1, 2, 3, 4, 5, 6, 99] {
        put(&spool, segment(number), 1);
    }
    put(&spool, "000000020000000000000003".parse().unwrap(), 1);
    let lock = spool.lock().unwrap().unwrap();
    fs::write(spool.folder.join("000000010000000000000004.part"), b"half").unwrap();
    spool.keep_only(&lock, &spool.window(segment(1), size())).unwrap();
    let mut kept: Vec<SegmentName> = spool.entries().unwrap().into_iter().map(|(name, ..)| name).collect();
    kept.sort();
    assert_eq!(kept, [2, 3, 4, 5].map(segment));
    assert_eq!(fs::read_dir(&spool.folder).unwrap().count(), 5, "those and the lock");
}

#[test]
fn it_is_low_when_less_than_half_can_be_served_without_a_stop() {
    let root = tempfile::tempdir().unwrap();
    let spool = spool(root.path());
    let low = || spool.is_low(segment(1), size()).unwrap();
    assert!(low());
    put(&spool, segment(3), 1);
    put(&spool, segment(4), 1);
    assert!(low(), "the very next one is not there");
    put(&spool, segment(2), 1);
    assert!(!low());
    put(&spool, segment(5), 1);
    assert!(!low(), "full");
}

#[test]
fn one_process_fills_it_and_a_reader_waits_for_it() {
    let root = tempfile::tempdir().unwrap();
    let spool = spool(root.path());
    let lock = spool.lock().unwrap().unwrap();
    assert!(spool.lock().unwrap().is_none());
    spool.wait_for(segment(1)).unwrap();
    let mut entry = spool.begin(&lock, segment(1)).unwrap();
    let destination = root.path().join("RECOVERYXLOG");
    let reader = std::thread::spawn({
        let (spool, destination) = (spool.clone(), destination.clone());
        move || {
            spool.wait_for(segment(1)).unwrap();
            spool.take(segment(1), &destination).unwrap()
        }
    });
    entry.write(&vec![3; MIB as usize]).unwrap();
    // The reader either waits or looked before there was anything: it never sees a half file.
    entry.finish().unwrap();
    assert_eq!(reader.join().unwrap().is_some(), destination.exists());
    drop(lock);
    assert!(spool.lock().unwrap().is_some());
}

#[test]
fn what_was_not_finished_is_not_there() {
    let root = tempfile::tempdir().unwrap();
    let spool = spool(root.path());
    let lock = spool.lock().unwrap().unwrap();
    let mut entry = spool.begin(&lock, segment(1)).unwrap();
    entry.write(b"half").unwrap();
    drop(entry);
    assert_eq!(fs::read_dir(&spool.folder).unwrap().count(), 1, "only the lock");
}

#[test]
fn another_line_of_descent_has_another_spool_and_takes_the_place() {
    let root = tempfile::tempdir().unwrap();
    let others = [
        spool_of(root.path(), 2, Some(Timeline(1))),
        spool_of(root.path(), 1, None),
        spool_of(root.path(), 1, Some(Timeline(2))),
    ];
    for other in &others {
        put(other, segment(1), 1);
    }
    fs::create_dir(root.path().join("not-ours")).unwrap();
    let spool = spool(root.path());
    assert!(!present(&spool, 1));
    let lock = spool.lock().unwrap().unwrap();
    spool.keep_only(&lock, &[]).unwrap();
    assert!(others.iter().all(|other| !present(other, 1)));
    assert!(root.path().join("not-ours").exists(), "nothing foreign is touched");
}
