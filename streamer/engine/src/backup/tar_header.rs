//! One header of the tar that BASE_BACKUP sends: plain ustar, as src/port/tar.c writes it. A path that leaves the data
//! directory is refused here, before anybody can use it.

use hardstorage_report::{Error, Result, code};

/// Headers, and the padding behind each file.
pub(super) const BLOCK: usize = 512;

/// What kind of member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file; its bytes follow.
    File,
    /// A directory.
    Directory,
    /// A symbolic link with its target.
    Symlink(String),
}

/// A member's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The path inside the archive, without a trailing slash.
    pub path: String,
    /// File, directory or link.
    pub kind: MemberKind,
    /// Bytes that follow.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Seconds since 1970.
    pub mtime: i64,
}

fn field(block: &[u8], from: usize, length: usize) -> &[u8] {
    block.get(from..from + length).unwrap_or_default()
}

fn text(raw: &[u8]) -> Result<String> {
    let end = raw.iter().position(|byte| *byte == 0).unwrap_or(raw.len());
    String::from_utf8(raw[..end].to_vec()).map_err(|_| {
        malformed(format!(
            "a name is not UTF-8: {:?}",
            String::from_utf8_lossy(&raw[..end])
        ))
    })
}

fn number(raw: &[u8]) -> Result<u64> {
    if raw.first().is_some_and(|byte| byte & 0x80 != 0) {
        // Base 256: big endian in the bytes after the first.
        let (head, tail) = raw.split_at(raw.len().saturating_sub(8));
        if head.iter().skip(1).any(|byte| *byte != 0) || head.first() != Some(&0x80) {
            return Err(malformed("a number is out of range"));
        }
        return Ok(tail.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
    }
    let digits = raw
        .iter()
        .copied()
        .skip_while(|b| *b == b' ')
        .take_while(|b| *b != 0 && *b != b' ');
    let mut value: u64 = 0;
    let mut any = false;
    for digit in digits {
        if !(b'0'..=b'7').contains(&digit) {
            return Err(malformed("a number is not octal"));
        }
        any = true;
        value = value
            .checked_mul(8)
            .and_then(|v| v.checked_add(u64::from(digit - b'0')))
            .ok_or_else(|| malformed("a number is out of range"))?;
    }
    if any {
        Ok(value)
    } else {
        Err(malformed("a number is empty"))
    }
}

/// Reads a header, whose checksum must match.
pub(super) fn parse_member(block: &[u8]) -> Result<Member> {
    if field(block, 257, 5) != b"ustar" {
        return Err(malformed("a header is not ustar"));
    }
    let sum: u64 = block
        .iter()
        .enumerate()
        .map(|(i, b)| if (148..156).contains(&i) { 32 } else { u64::from(*b) })
        .sum();
    if number(field(block, 148, 8))? != sum {
        return Err(malformed("a header's checksum does not match"));
    }
    let name = text(field(block, 0, 100))?;
    let prefix = text(field(block, 345, 155))?;
    let path = if prefix.is_empty() {
        name
    } else {
        format!("{prefix}/{name}")
    };
    let path = path.trim_start_matches("./").trim_end_matches('/').to_owned();
    let escapes = path.starts_with('/') || path.split('/').any(|part| part == ".." || part.is_empty());
    if path != "." && (path.is_empty() || escapes) {
        return Err(malformed(format!("the path {path:?} leaves the data directory")));
    }
    let size = number(field(block, 124, 12))?;
    let kind = match block.get(156) {
        Some(b'0' | 0) => MemberKind::File,
        Some(b'5') => MemberKind::Directory,
        Some(b'2') => MemberKind::Symlink(text(field(block, 157, 100))?),
        other => return Err(malformed(format!("{path:?} is of the unexpected type {other:?}"))),
    };
    if kind != MemberKind::File && size != 0 {
        return Err(malformed(format!("{path:?} is no file and has a size")));
    }
    let mode = (number(field(block, 100, 8))? & 0o7777) as u32;
    let mtime = i64::try_from(number(field(block, 136, 12))?).map_err(|_| malformed("a time is out of range"))?;
    Ok(Member {
        path,
        kind,
        size,
        mode,
        mtime,
    })
}

/// The error for an archive that PostgreSQL would not write.
pub(super) fn malformed(what: impl std::fmt::Display) -> Error {
    Error::new(
        code::replication::PROTOCOL,
        format!("the base backup's archive is malformed: {what}"),
    )
}
