//! Values of keywords: numbers, switches and words from a list, with libpq's leniency.

use hardstorage_report::Result;

use super::invalid;

/// A number, white space around it allowed. libpq reads a C `int`.
pub(super) fn integer(name: &str, value: &str) -> Result<i32> {
    value
        .trim_matches(|c: char| c.is_ascii_whitespace())
        .parse()
        .map_err(|_| invalid(name, format!("`{value}` is not a number")))
}

/// One of the words.
pub(super) fn word<T: Copy>(name: &str, value: &str, words: &[(&str, T)]) -> Result<T> {
    words
        .iter()
        .find(|(word, _)| *word == value)
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| {
            let list: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            invalid(name, format!("`{value}` is not known")).hint(format!("{name} is one of {}", list.join(", ")))
        })
}

/// A port; empty is the default.
pub(super) fn port(value: &str) -> Result<u16> {
    let value = value.trim_matches(|c: char| c.is_ascii_whitespace());
    if value.is_empty() {
        return Ok(super::lookup::DEFAULT_PORT);
    }
    // The value is not shown: of a URI with an unencoded password it may be a part.
    value.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
        invalid("port", "not a number from 1 to 65535")
            .hint("in a URI, percent-encode special characters in the password: @ is %40, / is %2F, : is %3A")
    })
}
