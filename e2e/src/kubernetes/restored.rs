//! The way back that needs no Kubernetes: the repository read from outside with the keys of its Secrets, by the engine's
//! command line, into a PostgreSQL of this machine.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::namespace::Namespace;
use super::writer::{BATCHES, whole_batches};
use crate::answer::Answer;
use crate::postgres::Cluster;
use crate::product::Hardstorage;
use crate::scratch::{Scratch, give_away};

/// A user outside of the cluster, with a directory of keys.
#[derive(Debug)]
pub struct Outside {
    product: Hardstorage,
    places: Scratch,
    url: String,
}

impl Outside {
    /// Somebody who reads this repository.
    pub fn new(url: String) -> Outside {
        let places = Scratch::new();
        places.dir("credentials");
        Outside {
            product: Hardstorage::new(),
            places,
            url,
        }
    }

    fn credentials(&self) -> PathBuf {
        self.places.path("credentials")
    }

    /// Copies every key of a Secret into the directory.
    #[track_caller]
    pub fn take(&self, namespace: &Namespace, secret: &str) {
        let found = namespace.get(&format!("secret/{secret}"));
        let data = found["data"].as_object();
        let data = data.unwrap_or_else(|| panic!("the Secret {secret} is empty"));
        for (key, value) in data {
            let path = self.credentials().join(key);
            let encoded = self.places.path("encoded");
            fs::write(&encoded, value.as_str().unwrap()).unwrap();
            // Bytes, not text.
            let decoded = Command::new("base64").arg("-d").arg(&encoded).output().unwrap();
            assert!(decoded.status.success(), "{key} of {secret} is not base64");
            fs::write(&path, decoded.stdout).unwrap();
            // A key that others can read is refused.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            give_away(&path);
        }
    }

    /// Forgets one of them.
    pub fn forget(&self, key: &str) {
        fs::remove_file(self.credentials().join(key)).unwrap();
    }

    /// Runs the engine on the repository.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Answer {
        let credentials = self.credentials();
        let more = ["--repo", &self.url, "--credentials-dir", credentials.to_str().unwrap()];
        self.product.run(&[args, &more].concat())
    }

    /// Restores a name and starts a server on it, which goes on to the end of what was asked for and is promoted.
    #[track_caller]
    pub fn restore(&self, name: &str, place: &str, args: &[&str]) -> Restored {
        self.restore_of(18, name, place, args)
    }

    /// The same with a server of this major version.
    #[track_caller]
    pub fn restore_of(&self, major: u16, name: &str, place: &str, args: &[&str]) -> Restored {
        let target = self.places.path(place);
        let words = ["restore", name, "--target", target.to_str().unwrap()];
        self.run(&[&words[..], args].concat()).ok();
        let mut server = server(major, &self.places, &target);
        server.until_promoted();
        Restored { server }
    }
}

/// What a container's server was told and this one cannot have: its certificates, its archiver, its users.
fn server(major: u16, places: &Scratch, data: &Path) -> Cluster {
    let hba = places.path("pg_hba.conf");
    fs::write(&hba, "local all all trust\n").unwrap();
    give_away(&hba);
    let ident = places.path("pg_ident.conf");
    fs::write(&ident, "").unwrap();
    give_away(&ident);
    Cluster::builder(major)
        .over(data)
        .set("ssl", "off")
        .set("archive_mode", "off")
        .set("logging_collector", "off")
        .set("log_destination", "stderr")
        .set("synchronous_standby_names", "")
        .set("hba_file", &hba.display().to_string())
        .set("ident_file", &ident.display().to_string())
        .start()
}

/// A restored server that runs.
#[derive(Debug)]
pub struct Restored {
    server: Cluster,
}

impl Restored {
    /// The batches of the load that it holds, each of them whole.
    #[track_caller]
    pub fn batches(&self, database: &str) -> BTreeSet<u32> {
        parse(&self.psql(database, BATCHES))
    }

    /// A query's answer, as psql writes it.
    #[track_caller]
    pub fn value(&self, database: &str, sql: &str) -> String {
        self.psql(database, sql).text().to_owned()
    }

    #[track_caller]
    fn psql(&self, database: &str, sql: &str) -> Answer {
        self.server
            .tool("psql", &["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql])
            .ok()
    }
}

/// The batches in psql's answer.
#[track_caller]
pub(super) fn parse(answer: &Answer) -> BTreeSet<u32> {
    whole_batches(answer.stdout.lines().map(|line| {
        let (batch, count) = line.split_once('|').unwrap_or_else(|| panic!("{answer}"));
        (batch.parse().unwrap(), count.parse().unwrap())
    }))
}
