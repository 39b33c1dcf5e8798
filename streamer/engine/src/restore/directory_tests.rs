//! Where files are laid, and where none may be.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
use super::*;

fn key(tablespace: u32, path: &str) -> EntryKey {
    EntryKey {
        tablespace,
        path: path.as_bytes().to_vec(),
    }
}

fn layout(data: &Path) -> Layout {
    Layout {
        data: data.to_owned(),
        tablespaces: BTreeMap::from([(7, data.join("ts"))]),
        wal: None,
        configuration: None,
        owner: None,
    }
}

#[test]
fn no_name_leaves_its_directory() {
    let layout = layout(Path::new("/data"));
    assert_eq!(layout.path(&key(0, "base/1/2")).unwrap(), Path::new("/data/base/1/2"));
    assert_eq!(layout.path(&key(7, "PG_18/1")).unwrap(), Path::new("/data/ts/PG_18/1"));
    for bad in [
        key(0, "../x"),
        key(0, "/etc/passwd"),
        key(0, "a//b"),
        key(0, ""),
        key(0, "a/./b"),
        key(0, "a\0b"),
        key(8, "x"),
    ] {
        assert!(layout.path(&bad).is_err(), "{bad}");
    }
}

#[test]
fn what_is_expected_reads_as_zeros_until_it_is_written() {
    let root = tempfile::tempdir().unwrap();
    let sink = DirectorySink::new(layout(root.path()), PostgresChecksums::default(), false);
    let info = FileInfo {
        key: key(0, "f"),
        mode: 0o600,
        mtime: 0,
        size: 4 << 20,
        crc32c: 0,
    };
    let handle = sink.create(&info).unwrap();
    sink.expect(&handle, 1 << 20, 2 << 20);
    sink.write_at(&handle, (1 << 20) + 8192, b"page").unwrap();
    let mut expected = vec![0; 4 << 20];
    expected[(1 << 20) + 8192..][..4].copy_from_slice(b"page");
    assert!(std::fs::read(root.path().join("f")).unwrap() == expected);
    if handle.allocates {
        let bytes = std::os::unix::fs::MetadataExt::blocks(&handle.file.metadata().unwrap()) * 512;
        assert!((2 << 20..4 << 20).contains(&bytes), "{bytes}: a hole before and behind");
    }
}

#[test]
fn a_file_that_differs_from_the_manifest_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut checksums = PostgresChecksums::default();
    let crc = hardstorage_codec::crc32c(b"abc");
    checksums.add(b"f", 3, Some(crc));
    checksums.add(b"pg_tblspc/7/g", 3, Some(crc));
    let sink = DirectorySink::new(layout(root.path()), checksums, true);
    let info = |key| FileInfo {
        key,
        mode: 0o600,
        mtime: 0,
        size: 3,
        crc32c: crc,
    };
    std::fs::create_dir(root.path().join("ts")).unwrap();
    for name in [key(0, "f"), key(7, "g")] {
        let handle = sink.create(&info(name.clone())).unwrap();
        sink.write_at(&handle, 0, b"abc").unwrap();
        sink.finish(&handle, crc, 3).unwrap();
        assert!(
            sink.finish(&handle, crc ^ 1, 3)
                .unwrap_err()
                .is(code::engine::FILE_CORRUPT)
        );
        assert!(sink.finish(&handle, crc, 2).is_err());
        assert!(sink.create(&info(name)).is_err(), "a file is created once");
    }
    assert_eq!(sink.checked(), 2);
}
