//! Positions in WAL, as text and as numbers.

/// A position as a number.
#[track_caller]
pub fn lsn(text: &str) -> u64 {
    let parse = |part: &str| u64::from_str_radix(part, 16).ok();
    let halves = text
        .split_once('/')
        .and_then(|(high, low)| Some((parse(high)?, parse(low)?)));
    let (high, low) = halves.unwrap_or_else(|| panic!("not a position: {text}"));
    high << 32 | low
}

/// A position as PostgreSQL writes it.
pub fn lsn_text(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF)
}
