//! A file of anchors: one line each, only ever appended to, and never inside of a repository: whoever can write into that
//! could change both.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use hardstorage_report::{Error, Result, code};
use hardstorage_repository::Anchor;

fn failed(doing: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let message = format!("{doing} {}", path.display());
    move |error| Error::new(code::cli::IO, message).source(error)
}

/// The path without links; refused when it lies inside of any repository.
pub(super) fn outside(path: &Path) -> Result<PathBuf> {
    let place = hardstorage_engine::restore::resolve(path).map_err(failed("resolve", path))?;
    match place
        .ancestors()
        .skip(1)
        .find(|folder| folder.join("HARDSTORAGE").exists())
    {
        Some(repository) => Err(Error::new(
            code::repository::ANCHOR_INSIDE,
            format!(
                "{} lies inside of the repository {}",
                path.display(),
                repository.display()
            ),
        )),
        None => Ok(place),
    }
}

/// Appends lines, durable on return.
pub(super) fn append(path: &Path, lines: &str) -> Result<()> {
    let is_new = !path.exists();
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(failed("open", path))?;
    // A line that a crash has cut off stays a line of its own.
    let lines = if ends_a_line(&mut file).map_err(failed("read", path))? {
        lines.to_owned()
    } else {
        format!("\n{lines}")
    };
    file.write_all(lines.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed("write", path))?;
    match path.parent() {
        Some(folder) if is_new => File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed("sync", folder)),
        _ => Ok(()),
    }
}

fn ends_a_line(file: &mut File) -> std::io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Every anchor of a file, with its place in it.
pub(super) fn read(path: &Path) -> Result<Vec<(String, Anchor)>> {
    let text = fs::read_to_string(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            let message = format!("there is no file {}", path.display());
            Error::new(code::repository::ANCHOR_MISSING, message)
        }
        ErrorKind::InvalidData => {
            let message = format!("{} is no text", path.display());
            Error::new(code::repository::ANCHOR_MALFORMED, message)
        }
        _ => failed("read", path)(error),
    })?;
    let mut anchors = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = format!("{}, line {}", path.display(), number + 1);
        let anchor = Anchor::parse(line).map_err(|error| error.context(place.clone()))?;
        anchors.push((place, anchor));
    }
    Ok(anchors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_whole_and_never_into_a_repository() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("anchors");
        append(&path, "one\n").unwrap();
        append(&path, "two\nthree\n").unwrap();
        fs::write(&path, [fs::read(&path).unwrap(), b"cut of".to_vec()].concat()).unwrap();
        append(&path, "four\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\ncut of\nfour\n");
        let error = read(&path).unwrap_err();
        assert!(
            error.is(code::repository::ANCHOR_MALFORMED) && error.to_string().contains("line 1"),
            "{error}"
        );
        assert!(
            read(&root.path().join("none"))
                .unwrap_err()
                .is(code::repository::ANCHOR_MISSING)
        );
        assert!(append(root.path(), "x\n").unwrap_err().is(code::cli::IO));

        assert_eq!(outside(&path).unwrap(), path.canonicalize().unwrap());
        let repository = root.path().join("repository");
        fs::create_dir_all(repository.join("deeper")).unwrap();
        fs::write(repository.join("HARDSTORAGE"), b"x").unwrap();
        std::os::unix::fs::symlink(repository.join("deeper"), root.path().join("link")).unwrap();
        for inside in [
            "repository/x",
            "repository/deeper/new/x",
            "link/x",
            "repository/deeper/../x",
        ] {
            let error = outside(&root.path().join(inside)).unwrap_err();
            assert!(error.is(code::repository::ANCHOR_INSIDE), "{inside}: {error}");
        }
    }
}
