//! Percent coding, strict on the way in.

use std::fmt;

use hardstorage_report::Result;

use super::invalid;

pub(super) fn percent_decode(input: &str) -> Result<Vec<u8>> {
    let bad = || invalid("a % is not followed by two hexadecimal digits").hint("write % itself as %25");
    let mut out = Vec::with_capacity(input.len());
    let mut bytes = input.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let pair = [bytes.next().ok_or_else(bad)?, bytes.next().ok_or_else(bad)?];
            let mut decoded = [0u8; 1];
            hex::decode_to_slice(pair, &mut decoded).map_err(|_| bad())?;
            out.extend_from_slice(&decoded);
        } else {
            out.push(byte);
        }
    }
    Ok(out)
}

pub(super) fn text(input: &str, what: &str) -> Result<String> {
    String::from_utf8(percent_decode(input)?).map_err(|_| invalid(format!("{what} is not UTF-8")))
}

/// Everything that has a meaning in a URL, and everything that is not printable ASCII, as %XX.
pub(super) fn percent_encode(bytes: &[u8], out: &mut fmt::Formatter<'_>) -> fmt::Result {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"/-._~=:,+@!$'()*".contains(&byte) {
            write!(out, "{}", byte as char)?;
        } else {
            write!(out, "%{byte:02X}")?;
        }
    }
    Ok(())
}
