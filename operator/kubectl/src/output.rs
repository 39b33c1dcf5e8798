//! Columns for people.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A table whose columns are as wide as what is in them. A column in which nothing stands is left out.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let used: Vec<usize> = (0..head.len())
        .filter(|&column| rows.iter().any(|row| row[column] != "-") || rows.is_empty())
        .collect();
    let width = |column: usize| {
        let widest = rows.iter().map(|row| row[column].chars().count()).max();
        widest.unwrap_or(0).max(head[column].len())
    };
    let widths: Vec<usize> = used.iter().map(|&column| width(column)).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let mut out = line(used.iter().map(|&column| head[column]).collect());
    for row in rows {
        out.push_str(&line(used.iter().map(|&column| row[column].as_str()).collect()));
    }
    out
}

/// A value, or a dash.
pub fn dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// How long ago, in the largest unit that fits.
pub fn age(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A moment to the second, in UTC: it is what a restore is asked for.
pub fn moment(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The longest name of one of our objects.
const LONGEST: usize = 45;

/// A name for an object that nobody named: what it is about, and the time to the second. Two of one second are refused by
/// the API server, not mixed up.
pub fn stamped(about: &str, now: Timestamp) -> String {
    let stamp = now.strftime("%Y%m%d-%H%M%S").to_string();
    let about = about.replace(['.', '_'], "-").to_lowercase();
    let cut: String = about.chars().take(LONGEST - stamp.len() - 1).collect();
    format!("{}-{stamp}", cut.trim_end_matches('-'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;

    #[test]
    fn names_fit() {
        let now = Timestamp::from_second(1_767_225_600).unwrap();
        assert_eq!(stamped("team.shop", now), "team-shop-20260101-000000");
        let long = stamped(&"a".repeat(45), now);
        assert!(long.len() <= LONGEST && long.ends_with("-20260101-000000"), "{long}");
    }

    #[test]
    fn columns_are_as_wide_as_their_content_and_empty_ones_are_left_out() {
        let rows = vec![
            vec!["shop".to_owned(), "-".to_owned(), "1".to_owned()],
            vec!["a-longer-one".to_owned(), "-".to_owned(), "22".to_owned()],
        ];
        let text = table(&["NAME", "EMPTY", "LAG"], &rows);
        assert_eq!(text, "NAME          LAG\nshop          1\na-longer-one  22\n");
        assert_eq!(table(&["NAME", "LAG"], &[]), "NAME  LAG\n");
    }

    #[test]
    fn ages_are_short() {
        let at = |second| Timestamp::from_second(second).unwrap_or_default();
        for (seconds, wanted) in [(0, "0s"), (59, "59s"), (3599, "59m"), (86_399, "23h"), (200_000, "2d")] {
            assert_eq!(age(at(seconds), at(0)), wanted);
        }
        assert_eq!(age(at(0), at(100)), "0s", "a clock that is behind");
    }
}
