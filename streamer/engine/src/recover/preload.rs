//! What a recovery keeps of the restored configuration: the libraries that are loaded at the start, because WAL may hold
//! records that only they can replay, and the settings that such libraries read; and limits larger than those that
//! `pg_control` tells of.
//!
//! PostgreSQL's own reader would refuse the whole configuration for one line that means nothing on this machine. This one
//! takes what it understands: what is kept is a hint to the server, which refuses what it cannot use.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Settings that are kept beside those of libraries, which have a point in their name.
const KEPT: [&str; 6] = [
    "shared_preload_libraries",
    "dynamic_library_path",
    "max_connections",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
];

/// PostgreSQL's own limit for files that include each other.
const DEPTH: usize = 10;

/// Settings by name; a later one wins.
pub(crate) type Kept = BTreeMap<String, String>;

/// Reads `file` and what it includes, then the text of `postgresql.auto.conf`. Absolute paths are those of the origin;
/// what lay there lies below `elsewhere`, when it is in the backup at all.
pub(super) fn kept(file: &Path, elsewhere: Option<&Path>, auto_conf: &str) -> Kept {
    let mut found = Kept::new();
    read(file, elsewhere, 0, &mut found);
    for line in auto_conf.lines() {
        keep(line, &mut found);
    }
    found
}

fn read(file: &Path, elsewhere: Option<&Path>, depth: usize, found: &mut Kept) {
    // A file that is not there is one that PostgreSQL will not find either.
    let Ok(text) = fs::read(file) else { return };
    if depth >= DEPTH {
        return;
    }
    for line in String::from_utf8_lossy(&text).lines() {
        let Some((directive, value)) = keep(line, found) else {
            continue;
        };
        let Some(path) = place(file, elsewhere, &value) else {
            continue;
        };
        match directive.as_str() {
            "include" | "include_if_exists" => read(&path, elsewhere, depth + 1, found),
            _ => {
                for file in configuration_files(&path) {
                    read(&file, elsewhere, depth + 1, found);
                }
            }
        }
    }
}

/// The files of an `include_dir`, in the order in which PostgreSQL reads them.
fn configuration_files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let names = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = names
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            path.extension().is_some_and(|extension| extension == "conf") && !name.starts_with('.')
        })
        .collect();
    files.sort();
    files
}

fn place(file: &Path, elsewhere: Option<&Path>, path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    match path.strip_prefix("/") {
        Ok(below) => elsewhere.map(|root| root.join(below)),
        Err(_) => Some(file.parent()?.join(path)),
    }
}

/// Keeps the setting of a line; gives an include directive back.
fn keep(line: &str, found: &mut Kept) -> Option<(String, String)> {
    let (name, value) = parse(line)?;
    if name.starts_with("include") {
        return Some((name, value));
    }
    if name.contains('.') || KEPT.contains(&name.as_str()) {
        found.insert(name, value);
    }
    None
}

/// Name and value of a line: `name = 'value' # comment`, where the sign and the quotes may be missing.
fn parse(line: &str) -> Option<(String, String)> {
    let line = line.trim_start();
    let end = line
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'))
        .unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    if name.is_empty() {
        return None;
    }
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let value = match rest.strip_prefix('\'') {
        Some(quoted) => unquote(quoted)?,
        None => rest.split(|c: char| c.is_whitespace() || c == '#').next()?.to_owned(),
    };
    Some((name.to_ascii_lowercase(), value))
}

/// A quoted value, up to its closing quote; `None` without one.
fn unquote(text: &str) -> Option<String> {
    let mut value = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' if letters.peek() == Some(&'\'') => {
                letters.next();
                value.push('\'');
            }
            '\'' => return Some(value),
            '\\' => value.push(match letters.next()? {
                'n' => '\n',
                't' => '\t',
                other => other,
            }),
            _ => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn lines_as_postgresql_writes_them() {
        let of = |line: &str| parse(line).map(|(name, value)| format!("{name}={value}"));
        for (line, read) in [
            ("Max_Connections = 100 # more", Some("max_connections=100")),
            ("\tmax_connections 100", Some("max_connections=100")),
            (r"citus.node = 'it''s \'here\''", Some("citus.node=it's 'here'")),
            (
                "shared_preload_libraries='a, b'#x",
                Some("shared_preload_libraries=a, b"),
            ),
            ("# max_connections = 1", None),
            ("", None),
            ("a.b = 'no end", None),
        ] {
            assert_eq!(of(line).as_deref(), read, "{line}");
        }
    }

    #[test]
    fn what_libraries_need_is_kept_through_includes_and_the_last_word_wins() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
        fs::create_dir_all(root.path().join("elsewhere/etc/pg")).unwrap();
        fs::create_dir(root.path().join("conf.d")).unwrap();
        write(
            "postgresql.conf",
            "shared_buffers = 64GB\nssl = on\nshared_preload_libraries = 'old'\ninclude 'custom.conf'\n\
             include_if_exists 'override.conf'\ninclude_dir = 'conf.d'\ninclude '/etc/pg/more.conf'\n",
        );
        write("custom.conf", "shared_preload_libraries = 'pg_stat_statements'\n");
        write("conf.d/2.conf", "pg_stat_statements.max = 20\n");
        write("conf.d/1.conf", "pg_stat_statements.max = 10\ninclude '1.conf'\n");
        write("conf.d/not", "pg_stat_statements.max = 30\n");
        write("elsewhere/etc/pg/more.conf", "max_prepared_transactions = 5\n");
        let elsewhere = root.path().join("elsewhere");
        let file = root.path().join("postgresql.conf");
        let found = kept(&file, Some(&elsewhere), "cron.database_name = 'x'\nwork_mem = '1GB'\n");
        let found: Vec<String> = found.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            found,
            [
                "cron.database_name=x",
                "max_prepared_transactions=5",
                "pg_stat_statements.max=20",
                "shared_preload_libraries=pg_stat_statements"
            ]
        );
    }
}
