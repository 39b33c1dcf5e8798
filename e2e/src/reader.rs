//! The second reader (`e2e/reader`): another language, written from the page about the format alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::answer::{Answer, run};
use crate::place::{cache_root, tree};
use crate::scratch::{Scratch, unprivileged};

const PROGRAMS: [&str; 3] = ["hsread.py", "hscheck.py", "hsalter.py"];

/// The reader with its key and repository, where the unprivileged user can reach it.
#[derive(Debug, Clone)]
pub struct Reader {
    scripts: PathBuf,
    modules: PathBuf,
    kek: Option<PathBuf>,
    repo: String,
}

impl Reader {
    /// For a repository, with its KEK when it is sealed.
    pub fn new(scratch: &Scratch, kek: Option<&Path>, repo: &str) -> Reader {
        let scripts = scratch.dir("reader");
        for program in PROGRAMS {
            let script = scripts.join(program);
            fs::copy(tree("e2e/reader").join(program), &script).unwrap();
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let modules = cache_root().join("reader");
        assert!(
            modules.exists(),
            "{} is missing: run scripts/fetch-reader, or make test",
            modules.display()
        );
        Reader {
            scripts,
            modules,
            kek: kek.map(Path::to_owned),
            repo: repo.to_owned(),
        }
    }

    /// The same with another KEK.
    pub fn with_kek(&self, kek: &Path) -> Reader {
        Reader {
            kek: Some(kek.to_owned()),
            ..self.clone()
        }
    }

    /// Runs one of its commands; the repository comes behind the command's name.
    pub fn run(&self, command: &str, args: &[&str]) -> Answer {
        self.program("hsread.py", &[&[command, &self.repo], args].concat())
    }

    /// Reads every object of the repository.
    pub fn check(&self) -> Answer {
        self.program("hscheck.py", &[&self.repo])
    }

    /// Changes fields of one document of a repository in the clear as a later program might have written them, under the
    /// right MAC or signature.
    pub fn alter(&self, signing_key: &Path, name: &str, fields: &str) -> Answer {
        let key = signing_key.to_str().unwrap();
        self.program("hsalter.py", &["--signing-key", key, &self.repo, name, fields])
    }

    fn program(&self, name: &str, args: &[&str]) -> Answer {
        let mut python = unprivileged("python3");
        python
            .env("PYTHONPATH", &self.modules)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .arg(self.scripts.join(name));
        if let Some(kek) = &self.kek {
            python.arg("--kek").arg(kek);
        }
        python.args(args);
        run(python, Duration::from_mins(5))
    }
}
