//! The key=value form: `host=db1 port=5432 password='it''s' ...` with libpq's quoting.
//!
//! Values end at white space; in single quotes they may hold it; a backslash takes the next character as it is, inside
//! and outside of quotes. Error texts never quote a value.

use hardstorage_report::Result;

use super::{Raw, malformed};

/// libpq asks isspace(), which is these in the C locale.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// Splits the text into keywords and values, in the order of the text.
pub(super) fn split(text: &str) -> Result<Vec<Raw>> {
    let mut raw: Vec<Raw> = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let end = rest.find(|c| c == '=' || is_space(c)).unwrap_or(rest.len());
        let name = &rest[..end];
        let Some(after) = rest[end..].trim_start_matches(is_space).strip_prefix('=') else {
            return Err(no_equals(name, &raw));
        };
        let (value, after) = read_value(after.trim_start_matches(is_space))?;
        raw.push(Raw {
            name: name.to_owned(),
            value,
        });
        rest = after.trim_start_matches(is_space);
    }
    Ok(raw)
}

fn no_equals(name: &str, before: &[Raw]) -> hardstorage_report::Error {
    match before.last() {
        // What follows a password may be its second half.
        Some(last) if last.name == "password" => malformed("a word without `=` follows the password")
            .hint("quote a password with spaces: password='two words'"),
        Some(last) => malformed(format!("a word without `=` follows {}", last.name))
            .hint("write postgres://user@host:5432/postgres, or key=value pairs with spaces only inside '...'"),
        None if super::is_word(name) => malformed(format!("`{name}` is neither a URI nor a key=value pair")),
        None => malformed("it is neither a URI nor a list of key=value pairs"),
    }
}

fn read_value(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let quoted = text.strip_prefix('\'');
    let body = quoted.unwrap_or(text);
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                if let Some((_, escaped)) = chars.next() {
                    value.push(escaped);
                }
            }
            '\'' if quoted.is_some() => return Ok((value, &body[at + 1..])),
            c if quoted.is_none() && is_space(c) => return Ok((value, &body[at..])),
            c => value.push(c),
        }
    }
    if quoted.is_some() {
        return Err(malformed("a quoted value has no closing quote"));
    }
    Ok((value, ""))
}
