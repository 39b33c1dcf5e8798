//! How a server is asked for.

use std::path::{Path, PathBuf};

use super::cluster::Cluster;
use super::template;
use crate::scratch::Scratch;

/// A server to be started: `Cluster::builder(18).set("wal_sender_timeout", "2s").start()`.
#[derive(Debug, Clone)]
pub struct Builder {
    pub(super) major: u16,
    pub(super) overrides: Vec<(String, String)>,
    pub(super) environment: Vec<(String, String)>,
    initdb: Vec<String>,
    own_identity: bool,
    data: Option<PathBuf>,
}

impl Builder {
    pub(super) fn new(major: u16) -> Builder {
        Builder {
            major,
            // A test's database is never worth a flush; `durable` is for those that cut the power.
            overrides: vec![("fsync".to_owned(), "off".to_owned())],
            environment: Vec::new(),
            initdb: Vec::new(),
            own_identity: false,
            data: None,
        }
    }

    /// A setting, stronger than every file.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Builder {
        self.overrides.retain(|(known, _)| known != name);
        self.overrides.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A variable for the server, and so for its `restore_command`.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Builder {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Several of them.
    #[must_use]
    pub fn environments<'a>(self, variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Builder {
        let with = |builder: Builder, (name, value)| builder.environment(name, value);
        variables.into_iter().fold(self, with)
    }

    /// With `fsync` on.
    #[must_use]
    pub fn durable(self) -> Builder {
        self.set("fsync", "on")
    }

    /// From initdb instead of the template: all copies of the template have one system identifier.
    #[must_use]
    pub fn own_identity(mut self) -> Builder {
        self.own_identity = true;
        self
    }

    /// With this segment size in MiB.
    #[must_use]
    pub fn wal_segment_size(mut self, mib: u32) -> Builder {
        self.initdb.push(format!("--wal-segsize={mib}"));
        self.own_identity()
    }

    /// Over a data directory that is there: a restored backup. It is not removed with the server.
    #[must_use]
    pub fn over(mut self, data: &Path) -> Builder {
        self.data = Some(data.to_owned());
        self
    }

    /// Makes the data directory, but does not start the server.
    pub fn make(self) -> Cluster {
        let scratch = Scratch::new();
        let data = if let Some(data) = self.data.clone() {
            data
        } else {
            let data = scratch.path("data");
            if self.own_identity {
                template::make(self.major, &data, &self.initdb);
            } else {
                template::copy(&template::of(self.major), &data);
            }
            data
        };
        Cluster::new(self, data, scratch)
    }

    /// Makes it, starts it, and waits until it answers SQL. A server that recovers answers as soon as it is consistent.
    #[track_caller]
    pub fn start(self) -> Cluster {
        let mut cluster = self.make();
        cluster.start();
        cluster
    }
}
