//! How the words of the command line become values. What is malformed is refused here, with an example of what is not.

use std::path::PathBuf;
use std::time::Duration;

use hardstorage_engine::restore::TargetTimeline;
use hardstorage_report::{ByteSize, Lsn, ParseLsnError, Timeline};

/// Reads `100ms`, `10s`, `5m`, `2h`, `1d`; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a duration; write for example 10s, 500ms or 5m");
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().map_err(|_| bad())?;
    let millis = match &text[split..] {
        "ms" => 1,
        "" | "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad()),
    };
    number
        .checked_mul(millis)
        .filter(|ms| *ms < 1 << 50)
        .map(Duration::from_millis)
        .ok_or_else(bad)
}

pub(super) fn parse_size(text: &str) -> Result<ByteSize, String> {
    text.parse()
}

/// A size that lets something happen.
pub(super) fn parse_limit(text: &str) -> Result<ByteSize, String> {
    match text.parse()? {
        ByteSize(0) => Err("0 would let nothing happen; write for example 100GiB".to_owned()),
        size => Ok(size),
    }
}

pub(super) fn parse_lsn(text: &str) -> Result<Lsn, ParseLsnError> {
    text.parse()
}

pub(super) fn parse_timeline(text: &str) -> Result<TargetTimeline, String> {
    match text.parse::<u32>() {
        _ if text == "latest" => Ok(TargetTimeline::Latest),
        Ok(number) if number > 0 => Ok(TargetTimeline::Number(Timeline(number))),
        _ => Err(format!("{text:?} is not a timeline; write latest or a number")),
    }
}

pub(super) fn parse_annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && key.len() <= 63 && value.len() <= 4096 => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(format!("{text:?} is not of the form KEY=VALUE")),
    }
}

pub(super) fn parse_mapping(text: &str) -> Result<(PathBuf, PathBuf), String> {
    let absolute = |path: &str| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    text.split_once('=')
        .and_then(|(old, new)| absolute(old).zip(absolute(new)))
        .ok_or_else(|| format!("{text:?} is not of the form OLD=NEW with absolute paths"))
}

/// A path that is true wherever a command runs.
pub(super) fn parse_absolute(text: &str) -> Result<PathBuf, String> {
    Some(PathBuf::from(text))
        .filter(|path| path.is_absolute())
        .ok_or_else(|| format!("{text:?} is not an absolute path"))
}

/// An id that fits on one line of a marker: what schedulers give, a UID for example.
pub(super) fn parse_retry_id(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if (1..=128).contains(&text.len()) && text.bytes().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} is not an id; write 1 to 128 letters, digits, '-', '_' and '.'"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("100ms", 100),
            ("10s", 10_000),
            ("10", 10_000),
            ("5m", 300_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "s", "-1s", "1.5s", "1w1", "99999999999999999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn absolute_paths_and_ids() {
        assert_eq!(parse_absolute("/opt/x"), Ok(PathBuf::from("/opt/x")));
        assert!(parse_absolute("opt/x").is_err() && parse_absolute("").is_err());
        let uid = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
        assert_eq!(parse_retry_id(uid), Ok(uid.to_owned()));
        for bad in ["", "a b", "a\n", "../x/y", &"x".repeat(129)] {
            assert!(parse_retry_id(bad).is_err(), "{bad:?}");
        }
    }
}
