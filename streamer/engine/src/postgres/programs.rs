//! PostgreSQL's own programs of the right major version, and how to run them: as the owner of the data, with their own
//! libraries, and without the environment of whoever called us.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hardstorage_report::{Error, Result, code};

use crate::restore::{MARKER, STAGED};

/// A directory with programs.
#[derive(Debug, Clone)]
pub struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Finds the directory that holds `program`: the one that was named, else one of PATH, else where packages put it.
    /// `None` when there is none; a named directory without it is an error, and so is one of another major version:
    /// its programs would call a healthy data directory corrupt.
    pub fn find(named: Option<&Path>, major: &str, program: &str) -> Result<Option<Programs>> {
        if let Some(directory) = named {
            let found = Programs {
                directory: directory.to_owned(),
            };
            let wrong = if found.have(program) {
                match found.major(program) {
                    Some(other) if other == major => return Ok(Some(found)),
                    Some(other) => format!(
                        "{} has {program} of PostgreSQL {other}, and the backup is of {major}",
                        directory.display()
                    ),
                    None => format!("{program} in {} does not tell its version", directory.display()),
                }
            } else {
                format!("{} has no {program}", directory.display())
            };
            return Err(Error::new(code::engine::PROGRAMS, wrong).hint(format!(
                "name the directory of PostgreSQL {major}'s programs with --pg-bin"
            )));
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let packaged = [
            format!("/usr/lib/postgresql/{major}/bin"),
            format!("/usr/pgsql-{major}/bin"),
        ];
        let candidates = packaged.iter().map(PathBuf::from).chain(std::env::split_paths(&path));
        for directory in candidates {
            let found = Programs { directory };
            if found.directory.join(program).is_file() && found.major(program).as_deref() == Some(major) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Finds what a server over a copy is started, looked at and asked with.
    pub(crate) fn of_server(named: Option<&Path>, major: &str) -> Result<Programs> {
        let missing = |program: &str| {
            let what = format!("{program} of PostgreSQL {major}, of which the copy is, was not found on this machine");
            Error::new(code::engine::PROGRAMS, what).hint(format!(
                "run this where PostgreSQL {major} is installed, or name the directory of its programs with --pg-bin"
            ))
        };
        let programs = Programs::find(named, major, "postgres")?.ok_or_else(|| missing("postgres"))?;
        for program in ["psql", "pg_controldata"] {
            if !programs.have(program) {
                return Err(missing(program));
            }
        }
        Ok(programs)
    }

    /// Whether a program is there.
    pub(crate) fn have(&self, program: &str) -> bool {
        self.directory.join(program).is_file()
    }

    /// The major version that a program tells of itself: the first number in the last word of `--version`.
    fn major(&self, program: &str) -> Option<String> {
        let output = self.command(program, None).ok()?.arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let number = text
            .split_whitespace()
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
        Some(number.split(|c: char| !c.is_ascii_digit()).next()?.to_owned())
    }

    /// A command, to be run as the owner of `data` when we are root.
    pub fn command(&self, program: &str, data: Option<&Path>) -> Result<Command> {
        let mut command = Command::new(self.directory.join(program));
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C")
            .current_dir("/");
        // Relocatable builds bring their libraries; the system's may be older.
        let libraries = self.directory.with_file_name("lib");
        if libraries.is_dir() {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        if let Some(data) = data
            && rustix::process::geteuid().is_root()
        {
            let owner = std::fs::metadata(data)
                .map_err(|error| Error::new(code::cli::IO, format!("look at {}", data.display())).source(error))?;
            command.uid(owner.uid()).gid(owner.gid());
        }
        Ok(command)
    }
}

/// The major version of a data directory.
pub fn major_of(data: &Path) -> Result<String> {
    let path = data.join("PG_VERSION");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Error::new(code::cli::IO, format!("read {}", path.display())).source(error))?;
    Ok(text.trim().to_owned())
}

/// Where a restore that has not ended yet has its markers: no files of the backup.
fn markers(data: &Path) -> Result<Vec<PathBuf>> {
    let spaces = data.join("pg_tblspc");
    let failed = |error| Error::new(code::cli::IO, format!("read {}", spaces.display())).source(error);
    let mut markers = vec![PathBuf::from(MARKER)];
    for entry in std::fs::read_dir(&spaces).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        markers.push(Path::new("pg_tblspc").join(name).join(MARKER));
    }
    Ok(markers)
}

/// Runs PostgreSQL's own `pg_verifybackup` over a restored directory. `None` when the program is not there.
pub fn verifybackup(named: Option<&Path>, data: &Path) -> Result<Option<String>> {
    let Some(programs) = Programs::find(named, &major_of(data)?, "pg_verifybackup")? else {
        return Ok(None);
    };
    // The WAL lies in the repository, not in the directory.
    let mut command = programs.command("pg_verifybackup", Some(data))?;
    command.args(["-n", "-i", STAGED]);
    for marker in markers(data)? {
        command.arg("-i").arg(marker);
    }
    let output = command.arg(data).output();
    let output = output.map_err(|error| Error::new(code::engine::PROGRAMS, "run pg_verifybackup").source(error))?;
    let first = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes)
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    if output.status.success() {
        Ok(Some(first(&output.stdout)))
    } else {
        let words = if output.stderr.is_empty() {
            &output.stdout
        } else {
            &output.stderr
        };
        Err(Error::new(
            code::engine::FILE_CORRUPT,
            format!("pg_verifybackup says no: {}", first(words)),
        ))
    }
}
