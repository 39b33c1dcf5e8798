//! The directory as it was, as it is for the kernel, and as a power cut may leave it.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::record::{Open, Record, Step};
use crate::scratch::give_away;
use crate::torture::Dice;

/// What becomes of a change that was not synced.
#[derive(Debug, Clone)]
pub enum Fate {
    /// It is lost.
    Lost,
    /// It is kept, as after a kill of the process.
    Kept,
    /// Names are kept, and files have their length; their bytes are zeros.
    Zeros,
    /// Each is kept or lost for itself; bytes may also be cut short or be zeros.
    Chance(Dice),
}

/// A disk that lies about syncs: with it the proof must fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignoring {
    /// An honest one.
    Nothing,
    /// It does not sync the files whose names begin so.
    Files(&'static str),
    /// It does not sync the directories whose names begin so.
    Folders(&'static str),
}

/// The number of a file or a directory.
type Number = usize;
const ROOT: Number = 0;

#[derive(Debug)]
enum Node {
    File {
        /// What it held in the beginning.
        base: Option<PathBuf>,
        writes: Vec<Written>,
    },
    /// Of each name, what it became and with which step; step 0 is the beginning.
    Folder(BTreeMap<String, Vec<(usize, Option<Number>)>>),
}

#[derive(Debug)]
struct Written {
    step: usize,
    offset: u64,
    bytes: Range<usize>,
}

/// A directory and its history.
#[derive(Debug)]
pub struct Disk<'a> {
    record: &'a Record,
    nodes: Vec<Node>,
    /// Steps before this one are safe, of each node.
    synced: Vec<usize>,
    /// The files that were made, by inode.
    inodes: BTreeMap<u64, Number>,
    /// The syncs under way: of what, and since which step.
    begun: BTreeMap<String, (Number, usize)>,
}

impl<'a> Disk<'a> {
    /// From a directory that was safe as a whole, through so many steps of the record.
    #[track_caller]
    pub fn cut(base: &Path, record: &'a Record, steps: usize, ignoring: Ignoring) -> Disk<'a> {
        let mut disk = Disk {
            record,
            nodes: Vec::new(),
            synced: Vec::new(),
            inodes: BTreeMap::new(),
            begun: BTreeMap::new(),
        };
        disk.load(base);
        for (at, step) in record.steps.iter().take(steps).enumerate() {
            disk.step(at + 1, step, ignoring);
        }
        disk
    }

    fn add(&mut self, node: Node) -> Number {
        self.nodes.push(node);
        self.synced.push(1);
        self.nodes.len() - 1
    }

    fn load(&mut self, folder: &Path) -> Number {
        let number = self.add(Node::Folder(BTreeMap::new()));
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let child = if entry.file_type().unwrap().is_dir() {
                self.load(&entry.path())
            } else {
                self.add(Node::File {
                    base: Some(entry.path()),
                    writes: Vec::new(),
                })
            };
            self.entries(number).insert(name, vec![(0, Some(child))]);
        }
        number
    }

    fn entries(&mut self, folder: Number) -> &mut BTreeMap<String, Vec<(usize, Option<Number>)>> {
        match &mut self.nodes[folder] {
            Node::Folder(entries) => entries,
            Node::File { .. } => panic!("a file is used as a directory"),
        }
    }

    /// What the kernel finds under a name now.
    fn find(&self, name: &str) -> Option<Number> {
        let parts = name.split('/').filter(|part| !part.is_empty());
        parts.into_iter().try_fold(ROOT, |at, part| match &self.nodes[at] {
            Node::Folder(entries) => entries.get(part)?.last()?.1,
            Node::File { .. } => None,
        })
    }

    /// What is open: by its name, or when that was taken from it, as the file that was made with this inode.
    fn opened(&self, open: &Open) -> Option<Number> {
        let named = open.name.as_ref().and_then(|name| self.find(name));
        named.or_else(|| self.inodes.get(&open.inode).copied())
    }

    #[track_caller]
    fn set(&mut self, step: usize, name: &str, to: Option<Number>) {
        let (folder, last) = name.rsplit_once('/').unwrap_or(("", name));
        let folder = self
            .find(folder)
            .unwrap_or_else(|| panic!("step {step}: no folder for {name}: something is done that is not recorded"));
        self.entries(folder)
            .entry(last.to_owned())
            .or_default()
            .push((step, to));
    }

    #[track_caller]
    fn step(&mut self, at: usize, step: &Step, ignoring: Ignoring) {
        let there = |disk: &Disk<'_>, name: &str| {
            disk.find(name)
                .unwrap_or_else(|| panic!("step {at}: {name} is not there: something is done that is not recorded"))
        };
        match step {
            Step::Create(name, inode) => {
                let file = self.add(Node::File {
                    base: None,
                    writes: Vec::new(),
                });
                self.inodes.insert(*inode, file);
                self.set(at, name, Some(file));
            }
            Step::MakeFolder(name) => {
                let folder = self.add(Node::Folder(BTreeMap::new()));
                self.set(at, name, Some(folder));
            }
            Step::Write { file, offset, bytes } => {
                let written = Written {
                    step: at,
                    offset: *offset,
                    bytes: bytes.clone(),
                };
                if let Some(number) = self.opened(file) {
                    match &mut self.nodes[number] {
                        Node::File { writes, .. } => writes.push(written),
                        Node::Folder(_) => panic!("step {at}: {file:?} is a folder"),
                    }
                }
            }
            Step::Link(from, to) => {
                let file = there(self, from);
                self.set(at, to, Some(file));
            }
            Step::Rename(from, to) => {
                let file = there(self, from);
                self.set(at, from, None);
                self.set(at, to, Some(file));
            }
            Step::Remove(name) | Step::RemoveFolder(name) => self.set(at, name, None),
            Step::Begin(sync, bytes, open) => {
                // Removed by another process meanwhile: then it has nothing to keep.
                let number = if *bytes {
                    self.opened(open)
                } else {
                    open.name.as_ref().and_then(|name| self.find(name))
                };
                if let Some(number) = number {
                    let is_file = matches!(self.nodes[number], Node::File { .. });
                    assert!(is_file || !bytes, "step {at}: {open:?} is a folder");
                    let begins = |begin| open.name.as_ref().is_some_and(|name| name.starts_with(begin));
                    let lies = match ignoring {
                        Ignoring::Nothing => false,
                        Ignoring::Files(begin) => is_file && begins(begin),
                        Ignoring::Folders(begin) => !is_file && begins(begin),
                    };
                    if !lies {
                        self.begun.insert(sync.clone(), (number, at));
                    }
                }
            }
            Step::End(sync) => {
                if let Some((number, since)) = self.begun.remove(sync) {
                    self.synced[number] = self.synced[number].max(since);
                }
            }
            Step::Promise(_) | Step::Elsewhere => {}
        }
    }

    /// Writes what is left into a directory that is there and empty.
    #[track_caller]
    pub fn leave(&self, target: &Path, fate: &mut Fate) {
        self.leave_folder(ROOT, target, fate);
    }

    fn leave_folder(&self, number: Number, target: &Path, fate: &mut Fate) {
        let Node::Folder(entries) = &self.nodes[number] else {
            panic!("{} is a file", target.display());
        };
        for (name, history) in entries {
            let mut left = None;
            for (step, to) in history {
                if *step < self.synced[number] || fate.keeps() {
                    left = *to;
                }
            }
            let path = target.join(name);
            match left.map(|child| (child, &self.nodes[child])) {
                Some((child, Node::Folder(_))) => {
                    fs::create_dir(&path).unwrap();
                    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
                    give_away(&path);
                    self.leave_folder(child, &path, fate);
                }
                Some((child, Node::File { base, writes })) => {
                    fs::write(&path, self.content(child, base.as_deref(), writes, fate)).unwrap();
                    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
                    give_away(&path);
                }
                None => {}
            }
        }
    }

    fn content(&self, number: Number, base: Option<&Path>, writes: &[Written], fate: &mut Fate) -> Vec<u8> {
        let mut content = base.map_or_else(Vec::new, |base| fs::read(base).unwrap());
        for written in writes {
            let mut bytes = self.record.data[written.bytes.clone()].to_vec();
            if written.step >= self.synced[number] && !fate.reaches(&mut bytes) {
                continue;
            }
            let start = written.offset as usize;
            let end = start + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[start..end].copy_from_slice(&bytes);
        }
        content
    }
}

impl Fate {
    /// Whether a change of a name that was not synced is kept.
    fn keeps(&mut self) -> bool {
        match self {
            Fate::Lost => false,
            Fate::Kept | Fate::Zeros => true,
            Fate::Chance(dice) => dice.coin(),
        }
    }

    /// Whether a write that was not synced reaches the disk, and with which bytes.
    fn reaches(&mut self, bytes: &mut Vec<u8>) -> bool {
        match self {
            Fate::Lost => return false,
            Fate::Kept => {}
            Fate::Zeros => bytes.fill(0),
            Fate::Chance(dice) => match dice.number(0..=3) {
                0 => return false,
                1 => bytes.fill(0),
                2 => bytes.truncate(dice.number(0..=bytes.len() as u64) as usize),
                _ => {}
            },
        }
        true
    }
}
