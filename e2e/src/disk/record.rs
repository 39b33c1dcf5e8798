//! What was done to a directory, in order.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A file or a directory that is open: the name that it was opened by, unless that is outside or was taken from it, and its
/// inode.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) name: Option<String>,
    pub(super) inode: u64,
}

/// One line of a record. Names are relative to the directory.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Create(String, u64),
    Write {
        file: Open,
        offset: u64,
        bytes: Range<usize>,
    },
    /// From, to.
    Link(String, String),
    Rename(String, String),
    Remove(String),
    MakeFolder(String),
    RemoveFolder(String),
    /// A sync begins: its number, whether it is one of bytes alone, and of what.
    Begin(String, bool, Open),
    End(String),
    Promise(String),
    /// Nothing of ours.
    Elsewhere,
}

/// The record of one directory.
#[derive(Debug)]
pub struct Record {
    pub(super) steps: Vec<Step>,
    pub(super) data: Vec<u8>,
}

impl Record {
    /// The variable that makes the product write one to a file.
    pub const VARIABLE: &str = "HARDSTORAGE_DISK_RECORD";

    /// Reads what was recorded about a directory.
    #[track_caller]
    pub fn read(file: &Path, root: &Path) -> Record {
        let root = fs::canonicalize(root).unwrap();
        let read = |path: &Path| fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let data = PathBuf::from(format!("{}.data", file.display()));
        let lines = String::from_utf8(read(file)).unwrap();
        Record {
            steps: lines.lines().map(|line| step(line, &root)).collect(),
            data: read(&data),
        }
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether nothing was done.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// What others were told, each with the number of the step from which on it must hold.
    pub fn promises(&self) -> impl Iterator<Item = (usize, &str)> {
        self.steps.iter().enumerate().filter_map(|(at, step)| match step {
            Step::Promise(text) => Some((at + 1, text.as_str())),
            _ => None,
        })
    }
}

#[track_caller]
fn step(line: &str, root: &Path) -> Step {
    let words: Vec<&str> = line.split('\t').collect();
    let inside = |path: &str| {
        let name = Path::new(path).strip_prefix(root).ok()?.to_str()?;
        (!name.ends_with(" (deleted)")).then(|| name.to_owned())
    };
    let number = |word: &str| word.parse::<u64>().unwrap_or_else(|_| panic!("no number in {line:?}"));
    let open = |path: &str, inode: &str| Open {
        name: inside(path),
        inode: number(inode),
    };
    let change = |make: fn(String) -> Step, path: &str| inside(path).map_or(Step::Elsewhere, make);
    match words[..] {
        ["create", path, inode] => inside(path).map_or(Step::Elsewhere, |name| Step::Create(name, number(inode))),
        ["remove", path] => change(Step::Remove, path),
        ["mkdir", path] => change(Step::MakeFolder, path),
        ["rmdir", path] => change(Step::RemoveFolder, path),
        ["link" | "rename", from, to] => match (inside(from), inside(to)) {
            (Some(from), Some(to)) if words[0] == "link" => Step::Link(from, to),
            (Some(from), Some(to)) => Step::Rename(from, to),
            _ => Step::Elsewhere,
        },
        ["write", path, inode, offset, length, at] => {
            let (at, length) = (number(at) as usize, number(length) as usize);
            Step::Write {
                file: open(path, inode),
                offset: number(offset),
                bytes: at..at + length,
            }
        }
        ["begin", sync, kind, path, inode] => Step::Begin(sync.to_owned(), kind == "fdatasync", open(path, inode)),
        ["end", sync] => Step::End(sync.to_owned()),
        ["promise", text] => Step::Promise(text.to_owned()),
        _ => panic!("not a step of a disk: {line:?}"),
    }
}
