//! Which pages were bad, from the server's warnings, whatever language they are in.
//!
//! The wording is never matched. A warning about a page holds the file's path and, behind it, a block number and two
//! checksums in hexadecimal; one that sums a file up holds the path and a count.

use hardstorage_repository::DamagedPage;

/// The places that these warnings name. A file that is named with its blocks is not named again as a whole.
pub fn damaged_pages<'a>(warnings: impl IntoIterator<Item = &'a str>) -> Vec<DamagedPage> {
    let mut found: Vec<DamagedPage> = Vec::new();
    for warning in warnings {
        let Some((path, rest)) = relation_path(warning) else {
            continue;
        };
        let numbers: Vec<&str> = rest
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b)))
            .collect();
        let block = match numbers.as_slice() {
            [block, _, _, ..] => block.parse::<u32>().ok(),
            _ => None,
        };
        if block.is_none() && found.iter().any(|known| known.path == path) {
            continue;
        }
        found.push(DamagedPage {
            path: path.to_owned(),
            block,
            reason: warning.chars().take(500).collect(),
        });
    }
    found
}

/// A relation's path in a text, and what follows it.
fn relation_path(text: &str) -> Option<(&str, &str)> {
    let at = ["base/", "global/", "pg_tblspc/"]
        .iter()
        .filter_map(|prefix| text.find(prefix))
        .min()?;
    let tail = &text[at..];
    let end = tail
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_')))
        .unwrap_or(tail.len());
    let path = tail[..end].trim_end_matches('.');
    Some((path, &tail[path.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_and_block_in_any_language() {
        let found = damaged_pages([
            "checksum verification failed in file \"./base/5/16384\", block 3: calculated 5BC9 but expected 12A4",
            "文件 \"base/5/16384\" 中的校验和验证失败, 块 7: 计算 5BC9 但预期 12A4",
            "file \"base/5/16384\" has a total of 2 checksum verification failures",
            "file \"global/1262\" has a total of 9 checksum verification failures",
            "something else entirely",
        ]);
        let places: Vec<_> = found.iter().map(|page| (page.path.as_str(), page.block)).collect();
        assert_eq!(
            places,
            [
                ("base/5/16384", Some(3)),
                ("base/5/16384", Some(7)),
                ("global/1262", None)
            ]
        );
    }
}
