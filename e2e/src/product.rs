//! The product's binary as a user has it: an empty environment, an own home with keyring and config, and the same user
//! as PostgreSQL, because the restored server calls it too.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::answer::{Answer, run};
use crate::background::Background;
use crate::place::{product_binary, reachable_by_all};
use crate::scratch::{Scratch, give_away, unprivileged};

/// One user of the product.
#[derive(Debug)]
pub struct Hardstorage {
    binary: PathBuf,
    scratch: Scratch,
    environment: Vec<(String, String)>,
    deadline: Duration,
}

impl Hardstorage {
    /// A user who has never called it: no config, no key.
    pub fn new() -> Hardstorage {
        let scratch = Scratch::new();
        scratch.dir("home");
        let mut binary = product_binary();
        if !reachable_by_all(&binary) {
            // Root's home is closed to the user that will call it.
            let copy = scratch.path("pg_hardstorage");
            fs::copy(&binary, &copy).unwrap_or_else(|error| panic!("copy {}: {error}", binary.display()));
            binary = copy;
        }
        Hardstorage {
            binary,
            scratch,
            environment: Vec::new(),
            deadline: Duration::from_mins(3),
        }
    }

    /// What was added to its environment.
    pub fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Adds to the environment of everything that follows.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Hardstorage {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The home directory: `.config/pg_hardstorage` lies in it.
    pub fn home(&self) -> PathBuf {
        self.scratch.path("home")
    }

    /// The configuration directory, with the keyring in it.
    pub fn config(&self) -> PathBuf {
        self.home().join(".config/pg_hardstorage")
    }

    /// Gives what was put into the configuration directory to the user.
    pub(crate) fn own_config(&self) {
        let home = self.home();
        for path in walk(&home.join(".config")) {
            let mode = if path.is_dir() { 0o700 } else { 0o600 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            give_away(&path);
        }
    }

    /// The binary that is run.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The command, ready to be changed before it is run.
    pub fn command(&self, args: &[&str]) -> Command {
        self.prepared(unprivileged(&self.binary), args)
    }

    /// The same as whoever runs the test: as root, when that is root.
    pub fn command_as_caller(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
        self.prepared(command, args)
    }

    fn prepared(&self, mut command: Command, args: &[&str]) -> Command {
        // No HOME-less corner: every XDG directory follows from it. Without the last one, the AWS SDK would ask an
        // address that does not answer on a machine outside a cloud.
        command
            .env("HOME", self.home())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("NO_COLOR", "1");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.home()).args(args);
        command
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Answer {
        run(self.command(args), self.deadline)
    }

    /// Starts it beside the test; `name` names its log.
    pub fn start(&self, name: &str, args: &[&str]) -> Background {
        Background::start(self.command(args), &self.scratch.path(name))
    }

    /// What one that was started under this name has said to its error output so far.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.scratch.path(name).with_extension("err")).unwrap_or_default()
    }
}

/// A directory and everything below it.
fn walk(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        if path.is_dir() {
            found.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
        next += 1;
    }
    found
}

impl Default for Hardstorage {
    fn default() -> Self {
        Hardstorage::new()
    }
}
