//! Round trips and foreign bytes for every part of a WAL object.

use super::super::directory::{Directory, FrameEntry};
use super::super::facts::{CommitAt, RecordFacts, RestorePoint, ServerTime};
use super::super::metadata::WalMetadata;
use super::*;
use crate::Lineage;
use hardstorage_report::{Lsn, SystemId, Timeline};
use proptest::prelude::*;

fn commit() -> impl Strategy<Value = Option<CommitAt>> {
    proptest::option::of((any::<u64>(), any::<i64>()).prop_map(|(lsn, time)| CommitAt {
        lsn: Lsn(lsn),
        time: ServerTime(time),
    }))
}

fn metadata() -> impl Strategy<Value = WalMetadata> {
    let facts = (
        commit(),
        commit(),
        commit(),
        proptest::option::of(any::<i64>()),
        proptest::option::of(any::<u64>()),
    );
    let place = (
        any::<u64>(),
        any::<u16>(),
        any::<u32>(),
        0u64..u64::MAX / 2,
        0u64..=1 << 20,
    );
    (facts, place, any::<[u8; 32]>(), any::<u32>()).prop_map(
        |((first_commit, last_commit, latest_commit, clock, end), place, hash, restore_points)| WalMetadata {
            lineage: Lineage {
                system_id: SystemId(place.0),
                incarnation: place.1,
            },
            timeline: Timeline(place.2),
            start: Lsn(place.3),
            segment_size: SegmentSize::new(1 << 20).unwrap(),
            length: place.4,
            hash,
            facts: RecordFacts {
                first_commit,
                last_commit,
                latest_commit,
                restore_points: Vec::new(),
                complete_up_to: clock.map(ServerTime),
                records_end: end.map(Lsn),
            },
            restore_points,
        },
    )
}

proptest! {
    #[test]
    fn metadata_round_trips(metadata in metadata()) {
        prop_assert_eq!(WalMetadata::decode(&metadata.encode()).unwrap(), metadata);
    }

    #[test]
    fn headers_round_trip(
        salt in any::<[u8; 16]>(), key_id in any::<[u8; 16]>(), bits in 20u32..=30, kind in 0..4usize,
        sealed in any::<bool>(), number in any::<u32>(), stored in 16u32..=1 << 20, raw in 0u32..=1 << 20,
    ) {
        let kind = [WalKind::Segment, WalKind::Tail, WalKind::Partial, WalKind::Journal][kind];
        let header = Header { kind, sealed, key_id, salt, segment_size: SegmentSize::new(1 << bits).unwrap() };
        prop_assert_eq!(Header::decode(&header.encode()).unwrap(), header);
        for codec in [Codec::Raw, Codec::Zstd, Codec::Zeros] {
            let part = PartHeader { part: Part::Frame, codec, number, stored_len: stored, raw_len: raw };
            prop_assert_eq!(PartHeader::decode(Part::Frame, &part.encode()).unwrap(), part);
            prop_assert!(PartHeader::decode(Part::Directory, &part.encode()).is_err());
        }
        let footer = Footer {
            header: header.encode(), directory_at: 64, directory_len: stored + 32, frames: number, digest: [7; 32],
            object_len: 64 + u64::from(stored) + 32 + TRAILER_LEN as u64,
        };
        let mut bytes = footer.encode_before_digest().to_vec();
        bytes.extend_from_slice(&footer.digest);
        prop_assert_eq!(Footer::decode(&bytes, footer.object_len).unwrap(), footer);
        prop_assert!(Footer::decode(&bytes, footer.object_len + 1).is_err());
    }

    #[test]
    fn directories_round_trip(
        frames in proptest::collection::vec((any::<u64>(), any::<u32>(), any::<u32>()), 0..9),
        pages in proptest::collection::vec(any::<u64>(), 0..40),
        names in proptest::collection::vec("[a-zä]{0,30}", 0..5),
    ) {
        let directory = Directory {
            frames: frames.into_iter().map(|(offset, stored_len, raw_len)| {
                FrameEntry { offset, stored_len, raw_len, codec: Codec::Zstd }
            }).collect(),
            pages,
            restore_points: names.into_iter().map(|name| {
                RestorePoint { name, lsn: Lsn(9), time: ServerTime(-4) }
            }).collect(),
        };
        let mut bytes = Vec::new();
        directory.encode(&mut bytes);
        prop_assert_eq!(Directory::decode(&bytes).unwrap(), directory);
    }

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..600), length in any::<u64>()) {
        prop_assert!(Header::decode(&bytes).is_err());
        prop_assert!(Footer::decode(&bytes, length).is_err());
        for part in [Part::Frame, Part::Directory, Part::Metadata] {
            prop_assert!(PartHeader::decode(part, &bytes).is_err());
        }
        let _ = Directory::decode(&bytes);
        let _ = WalMetadata::decode(&bytes);
    }
}
