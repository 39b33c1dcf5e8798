//! The WAL archive over the memory store, alone and with faults.

mod beside;
mod coverage;
mod fetch;
mod frontier;
mod journal;
mod moments;
mod segments;
mod small;
mod tails;

use std::sync::Arc;

use hardstorage_codec::Secret;
use hardstorage_report::{Lsn, SegmentName, SegmentSize, SystemId, Timeline};
use hardstorage_repository::wal::{CommitAt, RecordFacts, ServerTime, WalArchive};
use hardstorage_repository::{DataKey, Deployment, Lineage, RepoConfig, Surroundings, WriterId};
use hardstorage_storage::{DynStore, FaultStore, Key, MemoryStore};

pub const MIB: u64 = 1 << 20;

/// An archive with what is below it.
pub struct Bench {
    pub memory: Arc<MemoryStore>,
    pub faults: Arc<FaultStore>,
    pub archive: WalArchive,
}

pub fn size(mib: u64) -> SegmentSize {
    SegmentSize::new(mib * MIB).unwrap()
}

pub const LINEAGE: Lineage = Lineage {
    system_id: SystemId(0x6c5d_0000_0000_0001),
    incarnation: 1,
};

pub fn bench(mib: u64) -> Bench {
    bench_of(mib, true)
}

/// With or without encryption.
pub fn bench_of(mib: u64, sealing: bool) -> Bench {
    let memory = Arc::new(MemoryStore::new().with_page(3));
    let faults = Arc::new(FaultStore::new(memory.clone() as DynStore));
    let deployment = Deployment::for_tests_with(
        faults.clone() as DynStore,
        "db1",
        Surroundings::default(),
        DataKey::new(Secret::new([3; 32]), [4; 16], 1, sealing),
        RepoConfig::default(),
    );
    Bench {
        archive: WalArchive::new(deployment, LINEAGE, size(mib)),
        memory,
        faults,
    }
}

/// The WAL of a server: what stands at a position depends on the position and the server only. Every fourth page is
/// zero, one does not compress, two do.
pub fn wal(server: u8, from: Lsn, length: u64) -> Vec<u8> {
    (from.0..from.0 + length)
        .map(|at| {
            let page = at / 8192;
            let noise = (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 29) as u8;
            match page % 4 {
                0 => 0,
                1 => noise ^ server,
                _ => server.wrapping_add((page as u8) & 15),
            }
        })
        .collect()
}

pub fn name(timeline: u32, number: u64, size: SegmentSize) -> SegmentName {
    SegmentName::containing(Timeline(timeline), Lsn(number * size.bytes()), size)
}

/// A whole segment of a server.
pub fn whole(server: u8, number: u64, size: SegmentSize) -> Vec<u8> {
    wal(server, Lsn(number * size.bytes()), size.bytes())
}

pub fn writer(number: u8) -> WriterId {
    WriterId::new([number; 16])
}

pub fn commit(lsn: u64, time: i64) -> CommitAt {
    CommitAt {
        lsn: Lsn(lsn),
        time: ServerTime(time),
    }
}

/// Facts with these commits, complete up to this clock.
pub fn facts(commits: &[(u64, i64)], clock: Option<i64>) -> RecordFacts {
    let mut facts = RecordFacts::default();
    for (lsn, time) in commits {
        facts.note_commit(commit(*lsn, *time));
    }
    facts.complete_up_to = clock.map(ServerTime);
    facts
}

impl Bench {
    pub async fn store(&self, server: u8, timeline: u32, number: u64) {
        let size = self.archive.segment_size();
        let raw = whole(server, number, size);
        let put = self
            .archive
            .put_segment(name(timeline, number, size), &raw, RecordFacts::default());
        put.await.unwrap();
    }

    /// Timeline 2 left the first one here.
    pub async fn promoted_at(&self, switch: Lsn) {
        let history = format!("1\t{switch}\tno recovery target specified\n");
        let put = self.archive.put_history(Timeline(2), history.as_bytes());
        put.await.unwrap();
    }

    pub async fn read(&self, segment: SegmentName) -> hardstorage_report::Result<Option<Vec<u8>>> {
        let Some(mut stream) = self.archive.read_segment(segment).await? else {
            return Ok(None);
        };
        let mut out = Vec::new();
        while let Some(bytes) = stream.next().await? {
            assert!(bytes.len() <= MIB as usize);
            out.extend_from_slice(&bytes);
        }
        Ok(Some(out))
    }

    /// Every key in the store.
    pub async fn keys(&self) -> Vec<Key> {
        use hardstorage_storage::{ListRequest, Store as _};
        let mut request = ListRequest::under("");
        let mut keys = Vec::new();
        loop {
            let page = self.memory.list(&request).await.unwrap();
            keys.extend(page.objects.into_iter().map(|object| object.key));
            match page.next {
                Some(next) => request.after = Some(next),
                None => return keys,
            }
        }
    }
}
