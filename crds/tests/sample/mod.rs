//! The samples: files of `good/`, every document of which is accepted in turn, and of `bad/`, the last document of which is
//! refused with the words of the file's first line.

use std::fs;
use std::path::{Path, PathBuf};

/// One file.
pub struct Sample {
    /// Its name without the ending.
    pub name: String,
    /// Its documents, in order: states of one object.
    pub documents: Vec<String>,
    /// What the server says of the last one, for those in `bad/`.
    pub refused: Option<String>,
}

fn folder(kind: &str) -> PathBuf {
    hardstorage_e2e::tree("crds/tests/samples").join(kind)
}

/// All samples of a kind, by name.
pub fn samples(kind: &str) -> Vec<Sample> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder(kind))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Sample {
    let text = fs::read_to_string(path).unwrap();
    Sample {
        name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
        documents: text.split("\n---\n").map(str::to_owned).collect(),
        refused: text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("# refused: "))
            .map(str::to_owned),
    }
}
