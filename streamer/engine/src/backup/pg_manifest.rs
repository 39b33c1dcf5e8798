//! PostgreSQL's own `backup_manifest`, read line by line: the server writes one file on each line
//! (src/backend/backup/backup_manifest.c), so a manifest of a million files needs no more memory than one of ten.

use hardstorage_report::{Error, Lsn, Result, SystemId, Timeline, code};
use serde::Deserialize;

/// One file of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFile {
    /// The path below PGDATA (tablespaces under `pg_tblspc/<oid>/`), as bytes: names need not be UTF-8.
    pub path: Vec<u8>,
    /// Its size.
    pub size: u64,
    /// Its CRC32C, when the manifest has that kind.
    pub crc32c: Option<u32>,
}

/// A stretch of WAL that recovery needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct WalRange {
    /// Timeline.
    pub timeline: Timeline,
    /// First byte.
    pub from: Lsn,
    /// End, exclusive.
    pub to: Lsn,
}

/// One fact of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestLine {
    /// The version of its format.
    Version(u32),
    /// The cluster (format 2, PostgreSQL 17 and later).
    SystemIdentifier(SystemId),
    /// A file.
    File(ManifestFile),
    /// WAL that is needed.
    Wal(WalRange),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileLine {
    #[serde(rename = "Path")]
    path: Option<String>,
    #[serde(rename = "Encoded-Path")]
    encoded_path: Option<String>,
    #[serde(rename = "Size")]
    size: u64,
    #[serde(rename = "Last-Modified")]
    _last_modified: Option<String>,
    #[serde(rename = "Checksum-Algorithm")]
    algorithm: Option<String>,
    #[serde(rename = "Checksum")]
    checksum: Option<String>,
}

#[derive(Deserialize)]
struct WalLine {
    #[serde(rename = "Timeline")]
    timeline: u32,
    #[serde(rename = "Start-LSN")]
    start: String,
    #[serde(rename = "End-LSN")]
    end: String,
}

fn malformed(what: impl std::fmt::Display) -> Error {
    Error::new(
        code::replication::PROTOCOL,
        format!("PostgreSQL's backup manifest is malformed: {what}"),
    )
}

/// Takes the manifest in pieces and gives its lines.
#[derive(Debug, Default)]
pub struct ManifestParser {
    line: Vec<u8>,
    files: bool,
    wal: bool,
    complete: bool,
}

impl ManifestParser {
    /// Feeds bytes; calls `found` for each fact in order.
    pub fn feed(&mut self, bytes: &[u8], found: &mut dyn FnMut(ManifestLine) -> Result<()>) -> Result<()> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            if self.line.is_empty() {
                self.take(&rest[..end], found)?;
            } else {
                self.line.extend_from_slice(&rest[..end]);
                let line = std::mem::take(&mut self.line);
                self.take(&line, found)?;
                self.line = line;
                self.line.clear();
            }
            rest = &rest[end + 1..];
        }
        if self.line.len() + rest.len() > 64 << 10 {
            return Err(malformed("a line of over 64 KiB"));
        }
        self.line.extend_from_slice(rest);
        Ok(())
    }

    /// Says that it is complete.
    pub fn finish(self) -> Result<()> {
        if self.complete {
            Ok(())
        } else {
            Err(malformed("it ends before its checksum"))
        }
    }

    fn take(&mut self, line: &[u8], found: &mut dyn FnMut(ManifestLine) -> Result<()>) -> Result<()> {
        let line = std::str::from_utf8(line)
            .map_err(|_| malformed("a line is not UTF-8"))?
            .trim();
        let object = line.strip_suffix(',').unwrap_or(line);
        if self.complete {
            return if line.is_empty() {
                Ok(())
            } else {
                Err(malformed("text behind its end"))
            };
        }
        if let Some(version) = object.strip_prefix("{ \"PostgreSQL-Backup-Manifest-Version\": ") {
            let version = version.parse().map_err(|_| malformed("its version is no number"))?;
            if !(1..=2).contains(&version) {
                return Err(malformed(format!("version {version} is not known")));
            }
            return found(ManifestLine::Version(version));
        }
        if let Some(id) = object.strip_prefix("\"System-Identifier\": ") {
            let id = id
                .parse()
                .map_err(|_| malformed("the system identifier is no number"))?;
            return found(ManifestLine::SystemIdentifier(SystemId(id)));
        }
        if let Some(rest) = object.strip_prefix("\"Files\": [") {
            self.files = true;
            // An empty list is closed on the same line.
            if rest.trim_end().ends_with(']') {
                self.files = false;
            }
            return Ok(());
        }
        if object.starts_with("\"WAL-Ranges\": [") {
            self.wal = true;
            return Ok(());
        }
        if object.starts_with("\"Manifest-Checksum\": \"") {
            self.complete = true;
            return Ok(());
        }
        match object {
            "]" => {
                self.files = false;
                self.wal = false;
                Ok(())
            }
            "" => Ok(()),
            _ if self.wal => found(ManifestLine::Wal(wal_line(object)?)),
            _ if self.files => found(ManifestLine::File(file_line(object)?)),
            _ => Err(malformed(format!("unexpected line {object:?}"))),
        }
    }
}

fn file_line(text: &str) -> Result<ManifestFile> {
    let line: FileLine = serde_json::from_str(text).map_err(malformed)?;
    let path = match (line.path, line.encoded_path) {
        (Some(path), None) => path.into_bytes(),
        (None, Some(hex)) => hex::decode(hex).map_err(|_| malformed("an encoded path is not hexadecimal"))?,
        _ => return Err(malformed("a file has no path")),
    };
    let crc32c = match (line.algorithm.as_deref(), line.checksum) {
        // PostgreSQL prints the bytes of the checksum as they lie in memory: little endian.
        (Some("CRC32C"), Some(hex)) => {
            let mut raw = [0u8; 4];
            hex::decode_to_slice(hex, &mut raw).map_err(|_| malformed("a checksum is not CRC32C"))?;
            Some(u32::from_le_bytes(raw))
        }
        _ => None,
    };
    Ok(ManifestFile {
        path,
        size: line.size,
        crc32c,
    })
}

fn wal_line(text: &str) -> Result<WalRange> {
    let line: WalLine = serde_json::from_str(text).map_err(malformed)?;
    let lsn = |text: &str| text.parse::<Lsn>().map_err(malformed);
    Ok(WalRange {
        timeline: Timeline(line.timeline),
        from: lsn(&line.start)?,
        to: lsn(&line.end)?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &str = r#"{ "PostgreSQL-Backup-Manifest-Version": 2,
"System-Identifier": 7639282777750685031,
"Files": [
{ "Path": "backup_label", "Size": 225, "Last-Modified": "2026-06-25 08:30:40 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "4a5cd07c" },
{ "Encoded-Path": "ff41", "Size": 0, "Last-Modified": "2026-06-25 08:30:40 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "00000000" }
],
"WAL-Ranges": [
{ "Timeline": 10, "Start-LSN": "0/2000028", "End-LSN": "0/2000120" }
],
"Manifest-Checksum": "aa"}
"#;

    fn parse(text: &[u8], cut: usize) -> Result<Vec<ManifestLine>> {
        let mut parser = ManifestParser::default();
        let mut lines = Vec::new();
        for piece in text.chunks(cut) {
            parser.feed(piece, &mut |line| {
                lines.push(line);
                Ok(())
            })?;
        }
        parser.finish().map(|()| lines)
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_lines(cut in 1usize..400) {
            let lines = parse(SAMPLE.as_bytes(), cut).unwrap();
            prop_assert_eq!(lines.len(), 5);
            prop_assert_eq!(&lines[2], &ManifestLine::File(ManifestFile {
                path: b"backup_label".to_vec(), size: 225, crc32c: Some(0x7cd0_5c4a),
            }));
            let wal = WalRange { timeline: Timeline(10), from: Lsn(0x200_0028), to: Lsn(0x200_0120) };
            prop_assert_eq!(&lines[4], &ManifestLine::Wal(wal));
        }

        #[test]
        fn any_text_is_answered(text in ".{0,300}", cut in 1usize..50) {
            let _ = parse(text.as_bytes(), cut);
        }
    }

    #[test]
    fn cut_short_is_an_error() {
        let end = SAMPLE.find("\"Manifest-Checksum").unwrap();
        assert!(parse(&SAMPLE.as_bytes()[..end], 100).is_err());
    }
}
