//! CRC32C, which PostgreSQL's own manifest uses, and how two of them become the one of both parts together: a file's
//! checksum is known from its pages' without reading the file.

/// The CRC32C of some bytes.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// Goes on from an earlier CRC32C.
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

/// The CRC32C of two parts in order, from the CRC32C of each and the length of the second.
pub fn crc32c_combine(first: u32, second: u32, second_len: u64) -> u32 {
    BlockCrc::new(second_len).combine(first, second)
}

/// Appends blocks of one length to a CRC32C: the matrix is made once, each block then costs a few dozen operations.
#[derive(Debug, Clone)]
pub struct BlockCrc([u32; 32]);

const POLYNOMIAL: u32 = 0x82f6_3b78;

fn times(matrix: &[u32; 32], vector: u32) -> u32 {
    let mut rest = vector;
    let mut sum = 0;
    while rest != 0 {
        sum ^= matrix[rest.trailing_zeros() as usize];
        rest &= rest - 1;
    }
    sum
}

fn square(matrix: &[u32; 32]) -> [u32; 32] {
    std::array::from_fn(|i| times(matrix, matrix[i]))
}

impl BlockCrc {
    /// For blocks of this many bytes.
    pub fn new(block_len: u64) -> BlockCrc {
        // One zero bit, as a matrix over GF(2); squared thrice it is one zero byte.
        let bit: [u32; 32] = std::array::from_fn(|i| if i == 0 { POLYNOMIAL } else { 1 << (i - 1) });
        let mut power = square(&square(&square(&bit)));
        let mut result: [u32; 32] = std::array::from_fn(|i| 1 << i);
        let mut length = block_len;
        while length != 0 {
            if length & 1 == 1 {
                result = std::array::from_fn(|i| times(&power, result[i]));
            }
            power = square(&power);
            length >>= 1;
        }
        BlockCrc(result)
    }

    /// The CRC of what came before followed by one block.
    pub fn combine(&self, before: u32, block: u32) -> u32 {
        times(&self.0, before) ^ block
    }
}

/// Whether every byte is zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    let mut chunks = bytes.chunks_exact(64);
    chunks
        .by_ref()
        .all(|chunk| chunk.iter().fold(0, |sum, byte| sum | byte) == 0)
        && chunks.remainder().iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn combining_equals_the_whole(
            a in proptest::collection::vec(any::<u8>(), 0..3000),
            b in proptest::collection::vec(any::<u8>(), 0..3000),
        ) {
            let whole = crc32c_append(crc32c(&a), &b);
            prop_assert_eq!(crc32c_combine(crc32c(&a), crc32c(&b), b.len() as u64), whole);
        }
    }

    #[test]
    fn zeros() {
        let mut page = vec![0u8; 8192];
        assert!(is_zero(&page));
        for at in [0, 63, 64, 8191] {
            page[at] = 1;
            assert!(!is_zero(&page), "{at}");
            page[at] = 0;
        }
        assert!(is_zero(&[0; 7]) && !is_zero(&[0, 0, 1]));
    }
}
