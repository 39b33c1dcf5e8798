//! Points, and the death at one of them. One lock is held through each change and its record, and by whoever kills the
//! process: so the record tells of every change that was made, in the order in which they were made.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};

use super::record::Record;
use super::store::Watched;
use crate::DynStore;

/// What the environment asked for.
struct Trial {
    points: Option<File>,
    die_at: Option<String>,
    /// Where to stand still, and the file that has to go before it goes on.
    hold_at: Option<(String, PathBuf)>,
    record: Option<Record>,
    /// How often each point was passed.
    passed: HashMap<String, u64>,
    /// The directories that were opened as roots, as the kernel names them.
    roots: Vec<PathBuf>,
    promised: String,
}

static TRIAL: OnceLock<Option<Mutex<Trial>>> = OnceLock::new();

fn trial() -> Option<MutexGuard<'static, Trial>> {
    let trial = TRIAL.get_or_init(|| {
        let asked = |name: &str| std::env::var_os(name);
        let (points, record) = (asked("HARDSTORAGE_POINTS"), asked("HARDSTORAGE_DISK_RECORD"));
        let die_at = asked("HARDSTORAGE_DIE_AT").map(|line| line.to_string_lossy().into_owned());
        let hold_at = asked("HARDSTORAGE_HOLD_AT").map(|line| {
            let file = must(asked("HARDSTORAGE_HOLD_FILE").ok_or_else(|| io::Error::other("no file to wait for")));
            (line.to_string_lossy().into_owned(), file.into())
        });
        (points.is_some() || record.is_some() || die_at.is_some() || hold_at.is_some()).then(|| {
            Mutex::new(Trial {
                points: points.map(|path| must(append_to(Path::new(&path)))),
                die_at,
                hold_at,
                record: record.map(|path| must(Record::open(Path::new(&path)))),
                passed: HashMap::new(),
                roots: Vec::new(),
                promised: String::new(),
            })
        })
    });
    let trial = trial.as_ref()?;
    Some(trial.lock().unwrap_or_else(PoisonError::into_inner))
}

pub(super) fn append_to(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// A trial that cannot be written down proves nothing.
pub(super) fn must<T>(result: io::Result<T>) -> T {
    result.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "a trial cannot be recorded: {error}");
        std::process::abort()
    })
}

/// Where the kernel says that this is. A removed one has a name that leads nowhere.
fn path_of(file: BorrowedFd<'_>) -> PathBuf {
    if file.as_raw_fd() == CWD.as_raw_fd() {
        return must(std::env::current_dir());
    }
    must(std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())))
}

/// The place of a name, which is the same in every run.
fn place(name: &str) -> String {
    let part = |part: &str| match part {
        part if part.starts_with(".tmp-") => ".tmp".to_owned(),
        part if part.bytes().any(|byte| byte.is_ascii_digit()) => "*".to_owned(),
        part => part.to_owned(),
    };
    name.split('/').map(part).collect::<Vec<_>>().join("/")
}

impl Trial {
    fn place_of(&self, path: &Path) -> String {
        let inside = self.roots.iter().find_map(|root| path.strip_prefix(root).ok());
        match inside.and_then(Path::to_str) {
            Some("") => ".".to_owned(),
            Some(name) => place(name),
            None => "outside".to_owned(),
        }
    }

    fn point(&mut self, kind: &str, when: &str, place: &str) {
        let name = format!("{kind} {when} {place}");
        let number = self.passed.entry(name.clone()).or_default();
        *number += 1;
        let line = format!("{name} {number}");
        if let Some(points) = &mut self.points {
            must(points.write_all(format!("{line}\n").as_bytes()));
        }
        if self.die_at.as_ref() == Some(&line) {
            must(kill_process(getpid(), Signal::KILL).map_err(io::Error::from));
            loop {
                std::thread::park();
            }
        }
        if let Some((_, file)) = self.hold_at.take_if(|(at, _)| *at == line) {
            // With the lock: whoever else comes to a disk stands still, too.
            while file.exists() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Somebody else is about to be told that something is safe. The same promise again is none.
pub fn promise(text: impl FnOnce() -> String) {
    let Some(mut trial) = trial() else { return };
    let text = text().replace('\n', " ");
    if text == trial.promised {
        return;
    }
    trial.point("promise", "before", text.split(' ').next().unwrap_or_default());
    if let Some(record) = &mut trial.record {
        record.alone(|record| record.line(&["promise", &text]));
    }
    trial.promised = text;
}

/// A root was opened: names below it are told relative to it.
pub(crate) fn opened(root: BorrowedFd<'_>) {
    if let Some(mut trial) = trial() {
        trial.roots.push(path_of(root));
    }
}

/// A call that changes names: of each the one below `at`.
pub(crate) fn change<T, E>(
    kind: &'static str,
    at: BorrowedFd<'_>,
    names: &[&Path],
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let Some(mut trial) = trial() else { return work() };
    let at = path_of(at);
    let paths: Vec<PathBuf> = names.iter().map(|name| at.join(name)).collect();
    // The last name is what comes to be, or goes.
    let place = paths.last().map_or_else(String::new, |path| trial.place_of(path));
    trial.point(kind, "before", &place);
    let result = match &mut trial.record {
        Some(record) => record.alone(|record| {
            let result = work();
            if result.is_ok() {
                let paths: Vec<_> = paths.iter().map(|path| path.to_string_lossy()).collect();
                let number = (kind == "create").then(|| must(std::fs::metadata(paths[0].as_ref())).ino().to_string());
                let words = [kind].into_iter().chain(paths.iter().map(AsRef::as_ref));
                record.line(&words.chain(number.as_deref()).collect::<Vec<_>>());
            }
            result
        }),
        None => work(),
    };
    trial.point(kind, "after", &place);
    result
}

/// A call that writes some of these bytes to this place of a file.
pub(crate) fn write(
    file: &File,
    offset: u64,
    slices: &[IoSlice<'_>],
    work: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    let Some(mut trial) = trial() else { return work() };
    let path = path_of(file.as_fd());
    let place = trial.place_of(&path);
    trial.point("write", "before", &place);
    let result = match &mut trial.record {
        Some(record) => record.alone(|record| {
            let written = work()?;
            record.bytes(&path, file, offset, slices, written);
            Ok(written)
        }),
        None => work(),
    };
    trial.point("write", "after", &place);
    result
}

/// A call that makes what was written before it durable. Others go on meanwhile, so that it has a beginning and an end.
pub(crate) fn sync(
    kind: &'static str,
    file: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<(), Errno>,
) -> Result<(), Errno> {
    let Some(mut begins) = trial() else { return work() };
    let path = path_of(file);
    let place = begins.place_of(&path);
    begins.point(kind, "before", &place);
    let number = begins.record.as_mut().map(|record| record.begin(kind, &path, file));
    drop(begins);
    let result = work();
    if let Some(mut ends) = trial() {
        if let (Some(record), Some(number), Ok(())) = (&mut ends.record, number, result) {
            record.end(&number);
        }
        ends.point(kind, "after", &place);
    }
    result
}

/// A point around a call of a store; the keys are relative already.
pub(super) fn call(name: &str, when: &str, key: &str) {
    if let Some(mut trial) = trial() {
        trial.point(&format!("store.{name}"), when, &place(key));
    }
}

/// The store, with points around every call when they are asked for.
pub(crate) fn watched(store: DynStore) -> DynStore {
    match trial() {
        Some(_) => Arc::new(Watched(store)),
        None => store,
    }
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn a_place_is_the_same_in_every_run() {
        assert_eq!(
            place("wal/db1/0000000000000001-0001/segments/00000001"),
            "wal/*/*/segments/*"
        );
        assert_eq!(place("HARDSTORAGE"), "HARDSTORAGE");
        assert_eq!(place("manifests/.tmp-abcdef"), "manifests/.tmp");
    }
}
