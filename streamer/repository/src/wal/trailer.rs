//! The end of a WAL object: what it is, by one small range read.

use hardstorage_report::{Error, Result, code};
use hardstorage_storage::Key;

use super::format::{FOOTER_LEN, Footer, Header, PartHeader, TRAILER_LEN, WalKind};
use super::metadata::WalMetadata;
use super::seal::ObjectSeal;
use super::{Place, WalArchive};
use crate::DataKey;

/// What is known of an object before its directory is read.
#[derive(Debug, Clone)]
pub(super) struct Trailer {
    pub metadata: WalMetadata,
    pub footer: Footer,
    pub seal: ObjectSeal,
}

impl Trailer {
    /// Opens the last [`TRAILER_LEN`] bytes of an object.
    pub(super) fn open(key: &DataKey, bytes: &[u8], object_len: u64) -> Result<(Header, Trailer)> {
        let short = || Error::new(code::repository::OBJECT_CORRUPT, "it is too short for a WAL object");
        let (sealed, footer) = bytes.split_at_checked(TRAILER_LEN - FOOTER_LEN).ok_or_else(short)?;
        let footer = Footer::decode(footer, object_len)?;
        let header = Header::decode(&footer.header)?;
        let seal = ObjectSeal::new(key, &header)?;
        let mut metadata = sealed.to_vec();
        seal.open(&PartHeader::METADATA, &mut metadata)?;
        let metadata = WalMetadata::decode(&metadata)?;
        if metadata.segment_size != header.segment_size {
            return Err(Error::new(
                code::repository::OBJECT_CORRUPT,
                "header and metadata disagree about the segment size",
            ));
        }
        Ok((header, Trailer { metadata, footer, seal }))
    }
}

/// Reads the trailer of an object whose length is known, and compares it with what its name promises.
pub(super) async fn read_trailer(
    archive: &WalArchive,
    key: &Key,
    size: u64,
    kind: WalKind,
    place: Place,
) -> Result<Trailer> {
    let start = size.checked_sub(TRAILER_LEN as u64).ok_or_else(|| {
        Error::new(
            code::repository::OBJECT_CORRUPT,
            format!("object {key}: it is too short for a WAL object"),
        )
    })?;
    let bytes = archive.deployment().store().get_range(key, start..size).await?;
    let named = |error: Error| error.context(format!("object {key}"));
    let (header, trailer) = Trailer::open(archive.deployment().key(), &bytes, size).map_err(named)?;
    check_place(archive, &header, &trailer.metadata, kind, place).map_err(named)?;
    Ok(trailer)
}

pub(super) fn check_place(
    archive: &WalArchive,
    header: &Header,
    metadata: &WalMetadata,
    kind: WalKind,
    place: Place,
) -> Result<()> {
    let wrong = |what: &str| {
        Err(Error::new(
            code::repository::OBJECT_CORRUPT,
            format!("it is another object than its name says: {what}"),
        ))
    };
    if header.kind != kind {
        return wrong("a segment, a tail or a partial segment where one of the others should be");
    }
    if metadata.lineage != archive.lineage() {
        return wrong(&format!("its WAL belongs to {}", metadata.lineage));
    }
    if metadata.segment_size != archive.segment_size() {
        return wrong(&format!("its segments have {} bytes", metadata.segment_size.bytes()));
    }
    if (metadata.timeline, metadata.start, metadata.length) != (place.timeline, place.start, place.length) {
        return wrong(&format!(
            "it holds {} bytes from {} on timeline {}",
            metadata.length, metadata.start, metadata.timeline
        ));
    }
    Ok(())
}
