//! The tar that BASE_BACKUP sends: a strict, streaming ustar reader.
//!
//! Takes bytes as they arrive from the socket and gives them on without copying. PostgreSQL writes plain ustar
//! (src/port/tar.c): regular files, directories and symbolic links, names in `prefix/name`, sizes in octal or, above
//! 8 GiB, in base 256. Whatever else appears is an error, never skipped: a header that is guessed at is a lost file.

use bytes::{Buf, Bytes, BytesMut};
use hardstorage_report::Result;

use super::tar_header::{BLOCK, Member, MemberKind, malformed, parse_member};

/// What the reader found next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TarEvent {
    /// A new member.
    Member(Member),
    /// Bytes of the current member.
    Data(Bytes),
    /// The current regular file is complete.
    EndOfFile,
}

#[derive(Debug)]
enum State {
    Header,
    Data { left: u64, padding: usize },
    Padding { left: usize },
    End,
}

/// Reads one archive.
#[derive(Debug)]
pub struct TarReader {
    state: State,
    header: BytesMut,
    input: Bytes,
    zero_blocks: u8,
}

impl Default for TarReader {
    fn default() -> Self {
        TarReader {
            state: State::Header,
            header: BytesMut::with_capacity(BLOCK),
            input: Bytes::new(),
            zero_blocks: 0,
        }
    }
}

impl TarReader {
    /// Gives the next bytes. Only when [`TarReader::next_event`] has answered `None`.
    pub fn feed(&mut self, bytes: Bytes) {
        debug_assert!(self.input.is_empty());
        self.input = bytes;
    }

    /// The next event, or `None` when more bytes are needed.
    pub fn next_event(&mut self) -> Result<Option<TarEvent>> {
        loop {
            match self.state {
                State::Header => {
                    let missing = BLOCK - self.header.len();
                    let take = missing.min(self.input.len());
                    self.header.extend_from_slice(&self.input[..take]);
                    self.input.advance(take);
                    if self.header.len() < BLOCK {
                        return Ok(None);
                    }
                    if let Some(event) = self.parse_header()? {
                        return Ok(Some(event));
                    }
                }
                State::Data { left: 0, padding } => {
                    self.state = State::Padding { left: padding };
                    return Ok(Some(TarEvent::EndOfFile));
                }
                State::Data { left, padding } => {
                    if self.input.is_empty() {
                        return Ok(None);
                    }
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(self.input.len());
                    let data = self.input.split_to(take);
                    self.state = State::Data {
                        left: left - take as u64,
                        padding,
                    };
                    return Ok(Some(TarEvent::Data(data)));
                }
                State::Padding { left } => {
                    let take = left.min(self.input.len());
                    self.input.advance(take);
                    if take < left {
                        self.state = State::Padding { left: left - take };
                        return Ok(None);
                    }
                    self.state = State::Header;
                }
                State::End => {
                    if self.input.iter().any(|byte| *byte != 0) {
                        return Err(malformed("there are bytes behind its end"));
                    }
                    self.input.clear();
                    return Ok(None);
                }
            }
        }
    }

    /// Says that no more bytes come; an archive cut short is an error. PostgreSQL 15 and later end each with two zero blocks.
    pub fn finish(&self) -> Result<()> {
        match self.state {
            State::End => Ok(()),
            _ => Err(malformed("it ends in the middle")),
        }
    }

    fn parse_header(&mut self) -> Result<Option<TarEvent>> {
        let block = self.header.split();
        if block.iter().all(|byte| *byte == 0) {
            self.zero_blocks += 1;
            if self.zero_blocks == 2 {
                self.state = State::End;
            }
            return Ok(None);
        }
        if self.zero_blocks != 0 {
            return Err(malformed("a single zero block inside"));
        }
        let member = parse_member(&block)?;
        let size = member.size;
        self.state = if member.kind == MemberKind::File {
            let padding = (BLOCK - (size % BLOCK as u64) as usize) % BLOCK;
            State::Data { left: size, padding }
        } else {
            State::Header
        };
        Ok(Some(TarEvent::Member(member)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use proptest::prelude::*;

    fn header(path: &str, kind: u8, size: u64, link: &str) -> Vec<u8> {
        let mut block = vec![0u8; BLOCK];
        block[..path.len()].copy_from_slice(path.as_bytes());
        block[100..107].copy_from_slice(b"0000600");
        if size < 1 << 33 {
            block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        } else {
            block[124] = 0x80;
            block[128..136].copy_from_slice(&size.to_be_bytes());
        }
        block[136..147].copy_from_slice(b"15000000000");
        block[156] = kind;
        block[157..157 + link.len()].copy_from_slice(link.as_bytes());
        block[257..263].copy_from_slice(b"ustar\0");
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(i, b)| if (148..156).contains(&i) { 32 } else { u64::from(*b) })
            .sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    }

    fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut out = header("base", b'5', 0, "");
        out.extend(header("pg_tblspc/1", b'2', 0, "/srv/x"));
        for (path, data) in files {
            out.extend(header(path, b'0', data.len() as u64, ""));
            out.extend(data);
            out.resize(out.len().next_multiple_of(BLOCK), 0);
        }
        out.resize(out.len() + 2 * BLOCK, 0);
        out
    }

    fn read(bytes: &[u8], cuts: usize) -> Result<Vec<(Member, Vec<u8>)>> {
        let mut reader = TarReader::default();
        let mut found: Vec<(Member, Vec<u8>)> = Vec::new();
        for piece in bytes.chunks(cuts.max(1)) {
            reader.feed(Bytes::copy_from_slice(piece));
            while let Some(event) = reader.next_event()? {
                match event {
                    TarEvent::Member(member) => found.push((member, Vec::new())),
                    TarEvent::Data(data) => found.last_mut().unwrap().1.extend_from_slice(&data),
                    TarEvent::EndOfFile => {}
                }
            }
        }
        reader.finish().map(|()| found)
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_files(
            sizes in proptest::collection::vec(0usize..3000, 0..6), cut in 1usize..2000,
        ) {
            let files: Vec<_> =
                sizes.iter().enumerate().map(|(i, n)| (format!("base/1/{i}"), vec![i as u8; *n])).collect();
            let found = read(&archive(&files), cut).unwrap();
            prop_assert_eq!(found.len(), files.len() + 2);
            for ((member, data), (path, expected)) in found[2..].iter().zip(&files) {
                prop_assert_eq!(&member.path, path);
                prop_assert_eq!(data, expected);
            }
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..3000), cut in 1usize..600) {
            let _ = read(&bytes, cut);
        }

        #[test]
        fn a_flipped_header_bit_is_seen(at in 0usize..BLOCK, bit in 0u8..8) {
            let mut bytes = archive(&[]);
            bytes[at] ^= 1 << bit;
            // The checksum covers every byte of the header but the terminators of its own field, in which a blank instead of
            // the first zero says the same number.
            let says_the_same = (154..156).contains(&at) || (at, bit) == (148, 4);
            prop_assert!(read(&bytes, 512).is_err() || says_the_same);
        }
    }

    #[test]
    fn links_large_sizes_and_bad_paths() {
        let found = read(&archive(&[]), 512).unwrap();
        assert_eq!(found[1].0.kind, MemberKind::Symlink("/srv/x".into()));
        assert_eq!(parse_member(&header("f", b'0', 1 << 40, "")).unwrap().size, 1 << 40);
        for bad in ["../x", "/etc/passwd", "a/../b", "a//b"] {
            assert!(parse_member(&header(bad, b'0', 0, "")).is_err(), "{bad}");
        }
        let whole = archive(&[("f".into(), vec![1; 700])]);
        assert!(read(&whole[..whole.len() - BLOCK], 512).is_err());
    }
}
