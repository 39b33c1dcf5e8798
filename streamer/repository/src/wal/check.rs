//! One stored WAL object by its name, for those who read everything again: with the key every part of it, without any key
//! every byte against the digest at its end.

use hardstorage_codec::{PlainHash, equal};
use hardstorage_report::{DeploymentName, Kind, Lsn, Result, SegmentName, SegmentSize};
use hardstorage_storage::{DynStore, Key};

use super::aux::partial_of;
use super::format::{FOOTER_LEN, Footer, HEADER_LEN, Header, WalKind};
use super::journal_scan::{JournalScan, read_head, scan_bytes};
use super::object_reader::{WalObject, corrupt, off_thread};
use super::object_stream::WalStream;
use super::tails::TailName;
use super::{Place, WalArchive};
use crate::listing::Objects;
use crate::{Catalog, CatalogEntry, Deployment, Lineage, layout};

const READ: u64 = 4 << 20;
/// The digest is the last field, and does not cover itself.
const DIGEST_LEN: u64 = 32;

/// What an object is, by its name alone.
#[derive(Debug, Clone)]
pub(crate) struct NamedWal {
    pub(crate) lineage: Lineage,
    pub(crate) segment: SegmentName,
    kind: WalKind,
    tail: Option<TailName>,
}

impl NamedWal {
    /// The word for what no recovery reads.
    pub(crate) const PARTIAL: &'static str = "partial segment";

    /// `None` for what is no segment, tail or partial segment.
    pub(crate) fn of(name: &DeploymentName, key: &Key) -> Option<NamedWal> {
        let parts: Vec<&str> = key
            .as_str()
            .strip_prefix(&layout::wal_folder(name))?
            .split('/')
            .collect();
        let (segment, kind, tail) = match parts[..] {
            [_, "segments", _, _, segment] => (segment.parse().ok()?, WalKind::Segment, None),
            [_, "tails", _, segment, tail] => {
                let tail = TailName::parse(tail)?;
                let kind = tail.to.map_or(WalKind::Journal, |_| WalKind::Tail);
                (segment.parse().ok()?, kind, Some(tail))
            }
            [_, "aux", file] => (partial_of(file)?, WalKind::Partial, None),
            _ => return None,
        };
        let lineage = Lineage::from_folder(parts.first()?)?;
        let own = match tail {
            Some(TailName { from, to, streamer }) => match to {
                Some(to) => layout::tail(name, lineage, segment, from, to, &streamer),
                None => layout::journal(name, lineage, segment, from, &streamer),
            },
            None if kind == WalKind::Partial => layout::aux(name, lineage, &format!("{segment}.partial"))?,
            None => layout::segment(name, lineage, segment),
        };
        (own == *key).then_some(NamedWal {
            lineage,
            segment,
            kind,
            tail,
        })
    }

    /// What it says it is.
    pub(crate) fn word(&self) -> &'static str {
        match self.kind {
            WalKind::Segment => "segment",
            WalKind::Tail => "tail",
            WalKind::Journal => "journal",
            WalKind::Partial => NamedWal::PARTIAL,
        }
    }

    /// The positions that it holds, in a cluster with segments of this size; a journal may hold the rest of its segment.
    pub(crate) fn range(&self, size: Option<SegmentSize>) -> Option<(Lsn, Lsn)> {
        if let Some(TailName { from, to: Some(to), .. }) = self.tail {
            return Some((from, to));
        }
        let size = size?;
        let start = self.segment.start(size)?;
        let from = self.tail.map_or(start, |journal| journal.from);
        Some((from, start.add(size.bytes())))
    }

    fn place(&self, archive: &WalArchive) -> Result<Place> {
        match self.tail {
            Some(tail) => Ok(Place {
                timeline: self.segment.timeline,
                start: tail.from,
                length: tail.to.map_or(0, |to| tail.from.bytes_until(to)),
            }),
            None => archive
                .place_of(self.segment)
                .map_err(|_| corrupt("its segment size does not fit its name")),
        }
    }
}

/// Reads a range; nothing but an error or all of it.
async fn exact(store: &DynStore, key: &Key, from: u64, to: u64) -> Result<bytes::Bytes> {
    let bytes = store.get_range(key, from..to).await?;
    if bytes.len() as u64 == to - from {
        Ok(bytes)
    } else {
        Err(corrupt("the store gave fewer bytes than it has"))
    }
}

/// The segment size that header and footer agree about, or that the head of a journal tells.
pub(crate) async fn claimed_size(store: &DynStore, key: &Key, length: u64, named: &NamedWal) -> Result<SegmentSize> {
    if named.kind == WalKind::Journal {
        return Ok(read_head(store, key, length).await?.header.segment_size);
    }
    let footer_at = length
        .checked_sub(FOOTER_LEN as u64)
        .filter(|at| *at >= HEADER_LEN as u64)
        .ok_or_else(|| corrupt("it is too short for a WAL object"))?;
    let first = Header::decode(&exact(store, key, 0, HEADER_LEN as u64).await?)?;
    let copy = exact(store, key, footer_at, footer_at + HEADER_LEN as u64).await?;
    if Header::decode(&copy)? == first {
        Ok(first.segment_size)
    } else {
        Err(corrupt("its header and its end disagree"))
    }
}

impl WalArchive {
    /// The archive of a lineage. The segment size is that of its newest backup, else what its objects say, else
    /// PostgreSQL's default.
    pub async fn of_lineage(deployment: &Deployment, catalog: &Catalog, lineage: Lineage) -> Result<WalArchive> {
        let mut newest = catalog.entries.iter().rev().filter_map(CatalogEntry::manifest);
        let size = match newest.find(|stored| stored.manifest.lineage == lineage) {
            Some(stored) => Some(stored.manifest.server.wal_segment_size),
            None => stored_segment_size(deployment, lineage).await?,
        };
        Ok(WalArchive::new(
            deployment.clone(),
            lineage,
            size.unwrap_or(SegmentSize::DEFAULT),
        ))
    }
}

/// The segment size of a lineage, as a stored object says it: for archives without a backup that tells. Nothing when no
/// object is there that can be read.
async fn stored_segment_size(deployment: &Deployment, lineage: Lineage) -> Result<Option<SegmentSize>> {
    let mut objects = Objects::under(deployment.store(), layout::lineage_folder(deployment.name(), lineage));
    while let Some(object) = objects.next().await? {
        let Some(named) = NamedWal::of(deployment.name(), &object.key) else {
            continue;
        };
        match claimed_size(deployment.store(), &object.key, object.size, &named).await {
            Ok(size) => return Ok(Some(size)),
            // The next one tells it as well; a store that does not work is no answer.
            Err(error) if error.kind() == Kind::Verify => tracing::debug!(%error, "a WAL object tells no segment size"),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Reads every part with its key.
pub(crate) async fn check_sealed(deployment: &Deployment, key: &Key, length: u64, named: &NamedWal) -> Result<()> {
    let size = claimed_size(deployment.store(), key, length, named).await?;
    let archive = WalArchive::new(deployment.clone(), named.lineage, size);
    let place = named.place(&archive)?;
    let object = if named.kind == WalKind::Journal {
        let scan = JournalScan::new(&archive, key, length, place, None).await?;
        WalObject::of_journal(&archive, key, scan.sound(key)?).await?
    } else {
        WalObject::open(&archive, key, Some(length), named.kind, place).await?
    };
    let Some(object) = object else {
        return Err(super::vanished(key));
    };
    let mut bytes = WalStream::new(object);
    while bytes.next().await?.is_some() {}
    Ok(())
}

/// Reads every byte without any key.
pub(crate) async fn check_bytes(store: &DynStore, key: &Key, length: u64, named: &NamedWal) -> Result<()> {
    if named.kind == WalKind::Journal {
        return scan_bytes(store, key, length).await;
    }
    claimed_size(store, key, length, named).await?;
    let footer = exact(store, key, length - FOOTER_LEN as u64, length).await?;
    let footer = Footer::decode(&footer, length)?;
    if Header::decode(&footer.header)?.kind != named.kind {
        return Err(corrupt("it is another object than its name says"));
    }
    let (mut hash, mut at, end) = (PlainHash::default(), 0, length - DIGEST_LEN);
    while at < end {
        let next = end.min(at + READ);
        let bytes = exact(store, key, at, next).await?;
        hash = off_thread(move || {
            hash.update(&bytes);
            Ok(hash)
        })
        .await?;
        at = next;
    }
    if equal(&hash.finish(), &footer.digest) {
        Ok(())
    } else {
        Err(corrupt("the hash of its stored bytes does not match"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_others_are_not() {
        let name: DeploymentName = "db1".parse().unwrap();
        let root = "wal/db1/6a5d000000000001-0001";
        let segment = "00000001000000A000000003";
        let named = |rest: &str| NamedWal::of(&name, &Key::new(format!("{root}/{rest}")).unwrap());
        let found = named(&format!("segments/00000001/000000A0/{segment}")).unwrap();
        assert_eq!(found.word(), "segment");
        let size = SegmentSize::DEFAULT;
        assert_eq!(
            found.range(Some(size)).unwrap(),
            (Lsn(0xA0_0300_0000), Lsn(0xA0_0400_0000))
        );
        assert_eq!(found.range(None), None);
        assert_eq!(
            named(&format!("aux/{segment}.partial")).unwrap().word(),
            "partial segment"
        );
        let tail = format!(
            "tails/00000001/{segment}/000000A003000000-000000A003000100-{}",
            "ab".repeat(16)
        );
        assert_eq!(named(&tail).unwrap().range(None).unwrap().1, Lsn(0xA0_0300_0100));
        for bad in [
            format!("segments/00000002/000000A0/{segment}"),
            format!("segments/00000001/000000A1/{segment}"),
            format!("aux/{segment}.00000028.backup"),
            "timelines/00000002.history".to_owned(),
        ] {
            assert!(named(&bad).is_none(), "{bad}");
        }
    }
}
