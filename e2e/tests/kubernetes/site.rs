//! A protected database: a namespace with a Cluster, a bucket or a claim, and the three objects.

use std::collections::BTreeSet;
use std::time::Duration;

use hardstorage_e2e::kubernetes::{Bucket, Database, Forward, Namespace, Operator, Outside, is};
use serde_json::Value;

/// The longest wait for what the operator does.
pub const PATIENCE: Duration = Duration::from_mins(3);
/// A change of the spec, or a condition after a report.
pub const SOON: Duration = Duration::from_mins(1);

/// Tells what a test is about to do; the test runner shows it when the test fails.
#[allow(clippy::print_stderr, reason = "the runner keeps it for the test that fails")]
pub fn step(text: &str) {
    eprintln!("• {text}");
}

/// The Repository `main` in a bucket, with a Secret of access keys.
pub fn repository(url: &str) -> String {
    format!(
        "{}\n---\n\
         apiVersion: hardstorage.dev/v1alpha1\nkind: Repository\nmetadata: {{name: main}}\nspec:\n  \
         url: {url}\n  credentials: {{secretRef: {{name: s3}}}}\n",
        Bucket::secret("s3")
    )
}

/// The Deployment `shop` of a Cluster of CloudNativePG; `more` is further YAML of its spec.
pub fn deployment(cluster: &str, more: &str) -> String {
    format!(
        "apiVersion: hardstorage.dev/v1alpha1\nkind: Deployment\nmetadata: {{name: shop}}\nspec:\n  \
         source: {{cloudNativePG: {{cluster: {cluster}}}}}\n  repositoryRef: {{name: main}}\n{more}"
    )
}

/// A Backup of `shop` that is a wish; `more` is further YAML of its spec.
pub fn wish(name: &str, more: &str) -> String {
    format!(
        "apiVersion: hardstorage.dev/v1alpha1\nkind: Backup\nmetadata: {{name: {name}}}\nspec:\n  \
         deploymentRef: {{name: shop}}\n{more}"
    )
}

/// The BackupSchedule `shop`: every minute, the shortest that there is.
pub const SCHEDULE: &str = "apiVersion: hardstorage.dev/v1alpha1\nkind: BackupSchedule\nmetadata: {name: shop}\nspec:\n  \
                            deploymentRef: {name: shop}\n  schedule: \"* * * * *\"\n";

/// A namespace with a database and a bucket.
pub struct Site {
    // First, so that the forward ends before the namespace goes.
    pub namespace: Namespace,
    pub database: Database,
    pub bucket: Bucket,
}

impl Site {
    /// Without any object of ours.
    #[track_caller]
    pub fn new(name: &str, instances: u32) -> Site {
        Site::around(name, |namespace| {
            Database::make_cloud_native_pg(namespace, "shop", instances)
        })
        .healthy(instances)
    }

    /// The same with PostgreSQL of this major version, and one instance.
    #[track_caller]
    pub fn of_version(name: &str, major: u16) -> Site {
        Site::around(name, |namespace| {
            Database::make_cloud_native_pg_of(namespace, "shop", 1, major, "")
        })
        .healthy(1)
    }

    /// Around a database that is being made.
    #[track_caller]
    pub fn around(name: &str, database: impl FnOnce(&Namespace) -> Database) -> Site {
        Operator::get();
        let namespace = Namespace::new(name);
        let database = database(&namespace);
        let bucket = Bucket::start(&namespace);
        Site {
            namespace,
            database,
            bucket,
        }
    }

    #[track_caller]
    fn healthy(self, instances: u32) -> Site {
        self.database.until_healthy(&self.namespace, instances);
        self
    }

    /// With Repository and Deployment, streaming.
    #[track_caller]
    pub fn streaming(name: &str, instances: u32) -> Site {
        let site = Site::new(name, instances);
        site.protect("");
        site
    }

    /// Applies Repository and Deployment, with further YAML of the Deployment's spec, and waits until they are ready.
    #[track_caller]
    pub fn protect(&self, more: &str) {
        self.namespace.apply(&repository(&self.bucket.url("main")));
        self.namespace.apply(&deployment(self.database.name(), more));
        self.until_ready();
    }

    /// Waits until Repository and Deployment are ready and WAL flows.
    #[track_caller]
    pub fn until_ready(&self) {
        self.namespace.until_condition("hsrepo/main", "Ready", PATIENCE);
        self.namespace.until_condition("hsdep/shop", "Ready", PATIENCE);
        self.namespace.until_condition("hsdep/shop", "Streaming", PATIENCE);
    }

    /// The slot that the stream holds, as its status says.
    #[track_caller]
    pub fn slot(&self) -> String {
        self.slot_of("shop")
    }

    /// The same of another Deployment.
    #[track_caller]
    pub fn slot_of(&self, name: &str) -> String {
        let has_slot = |object: &Value| object["status"]["stream"]["slot"].is_string();
        let object = self
            .namespace
            .until_object(&format!("hsdep/{name}"), "its slot is known", SOON, has_slot);
        object["status"]["stream"]["slot"].as_str().unwrap().to_owned()
    }

    /// The stream's pod, and how often its container was started: the same as long as nothing touched it.
    #[track_caller]
    pub fn stream(&self) -> String {
        self.stream_of("shop")
    }

    /// The same of another Deployment.
    #[track_caller]
    pub fn stream_of(&self, name: &str) -> String {
        let selector = format!("hardstorage.dev/role=wal,hardstorage.dev/deployment={name}");
        let pods = self.namespace.list("pods", &selector);
        assert_eq!(pods.len(), 1, "{pods:#?}");
        let restarts = &pods[0]["status"]["containerStatuses"][0]["restartCount"];
        format!("{} {restarts}", pods[0]["metadata"]["uid"])
    }

    /// The name in the repository.
    pub fn name(&self) -> String {
        format!("{}.shop", self.namespace.name())
    }

    /// Waits until everything that is written now is in the repository.
    #[track_caller]
    pub fn until_archived(&self) {
        self.database.until_archived(&self.namespace, &self.slot(), PATIENCE);
    }

    /// Takes a backup by hand and waits until it is there; its id.
    #[track_caller]
    pub fn back_up(&self, name: &str) -> String {
        self.wish(name);
        let done = self.until_completed(name);
        done["status"]["backupID"].as_str().unwrap().to_owned()
    }

    /// Asks for a backup.
    #[track_caller]
    pub fn wish(&self, name: &str) {
        self.namespace.apply(&wish(name, ""));
    }

    /// Waits until a Backup object tells of a backup in the repository.
    #[track_caller]
    pub fn until_completed(&self, name: &str) -> Value {
        let object = format!("hsbk/{name}");
        let ended = |object: &Value| object["status"]["phase"] == "Completed" || is(object, "Stalled", "True");
        let ended = self.namespace.until_object(&object, "it has ended", PATIENCE, ended);
        assert_eq!(ended["status"]["phase"], "Completed", "{ended:#}");
        assert!(ended["status"]["backupID"].is_string(), "{ended:#}");
        ended
    }

    /// Proves from outside that everything that was written until now lies in the repository, without a gap.
    #[track_caller]
    pub fn nothing_is_lost(&self) {
        self.until_archived();
        let (_forward, outside) = self.outside();
        outside.run(&["wal", "audit", &self.name()]).ok();
    }

    /// Somebody outside with the keys of this namespace, and the way to the bucket.
    #[track_caller]
    pub fn outside(&self) -> (Forward, Outside) {
        let (forward, url) = self.bucket.outside(&self.namespace);
        let outside = Outside::new(url("main"));
        outside.take(&self.namespace, "s3");
        outside.take(&self.namespace, "main-kek");
        (forward, outside)
    }
}

/// The numbers that one set has and the other lacks.
pub fn missing(wanted: &BTreeSet<u32>, found: &BTreeSet<u32>) -> BTreeSet<u32> {
    wanted.difference(found).copied().collect()
}
