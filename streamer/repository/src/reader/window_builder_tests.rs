//! What a window is made into.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::WriterId;
use crate::pack::Codec;
use crate::reader::sink::FileInfo;
use crate::table::EntryKey;

fn pack(number: u8) -> PackId {
    PackId {
        writer: WriterId::new([number; 16]),
        sequence: 0,
    }
}

fn pos(number: u32) -> FramePos {
    FramePos {
        pack: 9,
        number,
        offset: 64 + u64::from(number) * 1000,
        stored_len: 900,
        raw_len: 4 * 8192,
        codec: Codec::Zstd,
        hash: [number as u8; 16],
    }
}

fn file(size: u64) -> Arc<OpenFile<()>> {
    OpenFile::new(Arc::new(FileInfo {
        key: EntryKey {
            tablespace: 0,
            path: b"f".to_vec(),
        },
        mode: 0,
        mtime: 0,
        size,
        crc32c: 0,
    }))
}

#[test]
fn frames_come_in_pack_order_with_the_pieces_of_all_files() {
    let mut builder = WindowBuilder::new(WindowLimits::LARGE);
    builder.part(file(4 * 8192), 0, 0);
    builder.piece(pack(2), &pos(5), 0, 8192).unwrap();
    builder.piece(pack(2), &pos(5), 8192, 8192).unwrap();
    builder.zeros(8192);
    builder.piece(pack(1), &pos(7), 8192, 8192).unwrap();
    builder.part(file(8192), 0, 0);
    builder.piece(pack(2), &pos(5), 3 * 8192, 8192).unwrap();
    builder.part(file(0), 0, 0);
    let window = builder.finish();
    let numbers: Vec<u32> = window.frames.iter().map(|frame| frame.pos.number).collect();
    assert_eq!(numbers, [7, 5]);
    let extents: Vec<_> = window
        .extents_of(1)
        .iter()
        .map(|e| (e.file, e.offset, e.frame_at, e.length))
        .collect();
    assert_eq!(
        extents,
        [(0, 0, 0, 16384), (1, 0, 3 * 8192, 8192)],
        "neighbours are one write"
    );
    let after_zeros = window.extents_of(0)[0];
    assert_eq!((after_zeros.offset, after_zeros.piece), (3 * 8192, 2));
    assert_eq!(
        window.files[0].zeros,
        vec![std::ops::Range {
            start: 2 * 8192,
            end: 3 * 8192
        }]
    );
    assert_eq!(window.files[0].stored, [0..2 * 8192, 3 * 8192..4 * 8192]);
    assert_eq!(window.bare, [2]);
    assert_eq!(window.pack_of(&window.frames[0].pos), Some(pack(1)));
}

#[test]
fn a_map_that_contradicts_itself_is_refused() {
    let mut builder = WindowBuilder::new(WindowLimits::LARGE);
    builder.part(file(8192), 0, 0);
    builder.piece(pack(1), &pos(0), 0, 8192).unwrap();
    let elsewhere = FramePos { offset: 65, ..pos(0) };
    assert!(builder.piece(pack(1), &elsewhere, 0, 8192).is_err());
    assert!(
        builder.piece(pack(1), &pos(0), 4 * 8192, 1).is_err(),
        "behind the end of the frame"
    );
    assert!(builder.piece(pack(1), &pos(0), u32::MAX, u32::MAX).is_err());
}

#[test]
fn a_window_is_full_by_any_of_its_limits() {
    let limits = WindowLimits {
        wide_files: 1,
        files: 3,
        pieces: 4,
    };
    let mut builder = WindowBuilder::new(limits);
    for _ in 0..2 {
        builder.part(file(8192), 0, 0);
        builder.piece(pack(1), &pos(0), 0, 8192).unwrap();
    }
    assert!(!builder.is_full());
    builder.piece(pack(1), &pos(1), 0, 8192).unwrap();
    assert!(builder.is_full(), "a wide file");
    let mut builder = WindowBuilder::new(limits);
    for _ in 0..3 {
        assert!(!builder.is_full());
        builder.part(file(0), 0, 0);
    }
    assert!(builder.is_full(), "three files");
}
