//! Entry points for fuzzing: each takes any bytes, as a hostile or broken server could send them, and must return.
//!
//! The committed corpus runs over all of them with the ordinary tests.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::Message;
use crate::archive_frame::ArchiveFrame;
use crate::base_backup::Reader;
use crate::rows::ResultSet;
use crate::setting;
use crate::stream::StreamEvent;
use crate::wal_frame;
use crate::wire::Wire;

/// Takes any bytes.
pub type Entry = fn(&[u8]);

/// Every entry point by name.
pub const ALL: &[(&str, Entry)] = &[
    ("wire", fuzz_wire),
    ("wal_frame", fuzz_wal_frame),
    ("archive_frame", fuzz_archive_frame),
    ("base_backup", fuzz_base_backup),
    ("rows", fuzz_rows),
    ("setting", fuzz_setting),
];

fn messages(data: &[u8], mut each: impl FnMut(Message) -> bool) {
    let mut wire = Wire::buffering(data);
    while let Ok(Some(message)) = wire.try_recv() {
        if !each(message) {
            break;
        }
    }
}

/// Headers and bodies of any messages.
pub fn fuzz_wire(data: &[u8]) {
    messages(data, |message| {
        // Taking it out of the enum is part of the contract: no name may be missing.
        !message.name().is_empty()
    });
}

/// One message of streaming replication; what is understood and can be written is written back the same.
pub fn fuzz_wal_frame(data: &[u8]) {
    let Ok(StreamEvent::Data {
        lsn,
        server_end,
        server_time,
        bytes,
    }) = wal_frame::decode(Bytes::copy_from_slice(data))
    else {
        return;
    };
    let mut again = BytesMut::new();
    again.put_u8(b'w');
    again.put_u64(lsn.0);
    again.put_u64(server_end.0);
    again.put_i64(server_time.0);
    again.put_slice(&bytes);
    assert_eq!(again, data, "a WAL message is not what was read");
}

/// One message of a base backup.
pub fn fuzz_archive_frame(data: &[u8]) {
    if let Ok(ArchiveFrame::Data(bytes)) = ArchiveFrame::decode(Bytes::copy_from_slice(data)) {
        assert_eq!(Some(&bytes[..]), data.get(1..), "backup data is not what was read");
    }
}

/// Everything after the beginning of a base backup's COPY.
pub fn fuzz_base_backup(data: &[u8]) {
    let mut reader = Reader::default();
    messages(data, |message| reader.take(message).is_ok() && !reader.is_done());
}

/// Rows of any shape, read as every kind of value.
pub fn fuzz_rows(data: &[u8]) {
    let mut set = ResultSet::default();
    messages(data, |message| match message {
        Message::RowDescription(columns) => {
            set = ResultSet::new(columns);
            true
        }
        Message::DataRow(values) => set.push(values).is_ok(),
        _ => true,
    });
    for row in set.into_rows() {
        for index in 0..4 {
            // Any answer is fine, as long as there is one.
            let _ = row.get::<u64>(index, "a number");
            let _ = row.get::<hardstorage_report::Lsn>(index, "a position");
        }
    }
}

/// What a server says about itself.
pub fn fuzz_setting(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = setting::supported(&text);
    let _ = setting::duration(&text);
}
