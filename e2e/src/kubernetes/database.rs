//! A database in the cluster: a Cluster of CloudNativePG, or Patroni's members; asked through psql in the pod of its primary.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use super::namespace::Namespace;
use super::node::image;
use crate::answer::Answer;
use crate::place::tree;

/// initdb, and a standby after it.
const START: Duration = Duration::from_mins(4);
/// A switchover or a failover, until all members are back.
const CHANGE: Duration = Duration::from_mins(3);

/// Who looks after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeper {
    CloudNativePG,
    Patroni,
}

/// The database.
#[derive(Debug, Clone)]
pub struct Database {
    keeper: Keeper,
    name: String,
}

impl Database {
    /// A healthy Cluster of CloudNativePG. With several instances each commit waits for a standby, so that a failover loses
    /// nothing that a client was told of.
    #[track_caller]
    pub fn cloud_native_pg(namespace: &Namespace, name: &str, instances: u32) -> Database {
        let database = Database::make_cloud_native_pg(namespace, name, instances);
        database.until_healthy(namespace, instances);
        database
    }

    /// The same without waiting for it.
    #[track_caller]
    pub fn make_cloud_native_pg(namespace: &Namespace, name: &str, instances: u32) -> Database {
        let synchronous = if instances > 1 {
            "{synchronous: {method: any, number: 1}}"
        } else {
            "{}"
        };
        let more = format!("  postgresql: {synchronous}\n");
        Database::make_cloud_native_pg_of(namespace, name, instances, 18, &more)
    }

    /// One of another major version, or with further YAML of its spec.
    #[track_caller]
    pub fn make_cloud_native_pg_of(
        namespace: &Namespace,
        name: &str,
        instances: u32,
        major: u16,
        more: &str,
    ) -> Database {
        let image = Self::image_of(major);
        namespace.apply(&format!(
            "apiVersion: postgresql.cnpg.io/v1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec:\n  \
             instances: {instances}\n  imageName: {image}\n  storage: {{size: 1Gi}}\n  \
             startDelay: 60\n  stopDelay: 30\n  smartShutdownTimeout: 5\n{more}"
        ));
        Database {
            keeper: Keeper::CloudNativePG,
            name: name.to_owned(),
        }
    }

    /// A Cluster that somebody else made.
    pub fn of_cloud_native_pg(name: &str) -> Database {
        Database {
            keeper: Keeper::CloudNativePG,
            name: name.to_owned(),
        }
    }

    /// Two members of Patroni, scope `orders`.
    #[track_caller]
    pub fn patroni(namespace: &Namespace) -> Database {
        Database::patroni_of(namespace, 2)
    }

    /// So many of them; applied again it changes how many there are.
    #[track_caller]
    pub fn patroni_of(namespace: &Namespace, members: u32) -> Database {
        let path = tree("e2e/kubernetes/yaml/patroni.yaml");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let image = image("HARDSTORAGE_E2E_PATRONI_IMAGE", "localhost/patroni:18");
        let text = text.replace("localhost/patroni:18", &image);
        namespace.apply(&text.replace("replicas: 2", &format!("replicas: {members}")));
        let database = Database {
            keeper: Keeper::Patroni,
            name: "orders".to_owned(),
        };
        database.until_healthy(namespace, members);
        database
    }

    /// The image with PostgreSQL's programs.
    pub fn image() -> String {
        Self::image_of(18)
    }

    /// The same of a major version: 15 or 18.
    #[track_caller]
    pub fn image_of(major: u16) -> String {
        match major {
            15 => image("HARDSTORAGE_E2E_POSTGRES_15_IMAGE", "localhost/postgres:15"),
            18 => image("HARDSTORAGE_E2E_POSTGRES_IMAGE", "localhost/postgres:18"),
            other => panic!("there is no image of PostgreSQL {other}"),
        }
    }

    /// Its name: the Cluster's, or the scope.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The object that a user made.
    pub fn object(&self) -> String {
        match self.keeper {
            Keeper::CloudNativePG => format!("clusters.postgresql.cnpg.io/{}", self.name),
            Keeper::Patroni => format!("statefulset/{}", self.name),
        }
    }

    /// The Service that leads to the primary.
    pub fn service(&self) -> String {
        match self.keeper {
            Keeper::CloudNativePG => format!("{}-rw", self.name),
            Keeper::Patroni => self.name.clone(),
        }
    }

    /// The selector of its pods.
    pub fn selector(&self) -> String {
        match self.keeper {
            Keeper::CloudNativePG => format!("cnpg.io/cluster={}", self.name),
            Keeper::Patroni => format!("cluster-name={}", self.name),
        }
    }

    /// Waits until all members serve, and all standbys stream.
    #[track_caller]
    pub fn until_healthy(&self, namespace: &Namespace, members: u32) {
        match self.keeper {
            Keeper::CloudNativePG => {
                let healthy = |cluster: &Value| {
                    let status = &cluster["status"];
                    status["readyInstances"] == members
                        && status["phase"] == "Cluster in healthy state"
                        && status["currentPrimary"] == status["targetPrimary"]
                };
                namespace.until_object(&self.object(), "it is healthy", START, healthy);
            }
            Keeper::Patroni => {
                namespace.wait(
                    &self.object(),
                    &format!("jsonpath={{.status.readyReplicas}}={members}"),
                    START,
                );
            }
        }
        // What both call ready does not mean that a standby streams.
        let standbys = (members - 1).to_string();
        namespace.until("all standbys stream", CHANGE, |namespace| {
            let sql = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' \
                       AND application_name NOT LIKE 'pg_hardstorage%'";
            (self.try_value(namespace, sql)? == standbys).then_some(())
        });
    }

    /// The pod of the primary, once there is one.
    #[track_caller]
    pub fn try_primary(&self, namespace: &Namespace) -> Option<String> {
        match self.keeper {
            Keeper::CloudNativePG => {
                let cluster = namespace.find(&self.object())?;
                Some(cluster["status"]["currentPrimary"].as_str()?.to_owned())
            }
            Keeper::Patroni => {
                let leaders = namespace.list("pods", &format!("{},role=primary", self.selector()));
                Some(leaders.first()?["metadata"]["name"].as_str()?.to_owned())
            }
        }
    }

    /// The pod of the primary.
    #[track_caller]
    pub fn primary(&self, namespace: &Namespace) -> String {
        namespace.until("there is a primary", CHANGE, |namespace| self.try_primary(namespace))
    }

    /// Runs psql on the primary.
    #[track_caller]
    pub fn psql(&self, namespace: &Namespace, database: &str, sql: &str) -> Answer {
        let primary = self.primary(namespace);
        self.psql_in(namespace, &primary, database, sql)
    }

    #[track_caller]
    fn psql_in(&self, namespace: &Namespace, pod: &str, database: &str, sql: &str) -> Answer {
        let (container, host) = match self.keeper {
            Keeper::CloudNativePG => ("postgres", "/controller/run"),
            Keeper::Patroni => ("patroni", "/tmp"),
        };
        let words = [
            "psql",
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            host,
            "-U",
            "postgres",
            "-d",
            database,
            "-c",
            sql,
        ];
        namespace.exec(pod, container, &words)
    }

    /// Runs statements in the database `postgres` of the primary.
    #[track_caller]
    pub fn sql(&self, namespace: &Namespace, sql: &str) -> String {
        self.psql(namespace, "postgres", sql).ok().text().to_owned()
    }

    /// The same where a failure is an answer too: the primary may be on its way out.
    #[track_caller]
    pub fn try_value(&self, namespace: &Namespace, sql: &str) -> Option<String> {
        let primary = self.try_primary(namespace)?;
        let answer = self.psql_in(namespace, &primary, "postgres", sql);
        (answer.code == Some(0)).then(|| answer.text().to_owned())
    }

    /// Waits until a stream of ours has made everything durable that the server has written now.
    #[track_caller]
    pub fn until_archived(&self, namespace: &Namespace, slot: &str, deadline: Duration) {
        let lsn = self.sql(namespace, "SELECT pg_current_wal_flush_lsn()");
        self.until_confirmed(namespace, slot, &lsn, deadline);
    }

    /// Waits until a stream of ours has made everything durable up to a position, which may be that of the server that this
    /// one follows.
    #[track_caller]
    pub fn until_confirmed(&self, namespace: &Namespace, slot: &str, lsn: &str, deadline: Duration) {
        let sql = format!(
            "SELECT coalesce(bool_or(r.flush_lsn >= '{lsn}'), false) FROM pg_stat_replication r \
             JOIN pg_replication_slots s ON s.active_pid = r.pid WHERE s.slot_name = '{slot}'"
        );
        namespace.until(&format!("the slot {slot} has confirmed {lsn}"), deadline, |namespace| {
            (self.try_value(namespace, &sql)? == "t").then_some(())
        });
    }

    /// The physical slots on the primary that are not its keeper's own.
    #[track_caller]
    pub fn slots(&self, namespace: &Namespace) -> Vec<String> {
        let sql = "SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'pg_hardstorage%' ORDER BY 1";
        self.sql(namespace, sql).lines().map(str::to_owned).collect()
    }

    /// The server's clock, to the microsecond.
    #[track_caller]
    pub fn now(&self, namespace: &Namespace) -> String {
        let sql = r#"SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#;
        self.sql(namespace, sql)
    }

    /// Asks for a switchover to another member, as CloudNativePG's own plugin does, and waits until it has happened.
    #[track_caller]
    pub fn switch_over(&self, namespace: &Namespace) -> String {
        let old = self.primary(namespace);
        let new = self.another(namespace, &old);
        match self.keeper {
            Keeper::CloudNativePG => {
                let now = self.now(namespace);
                let patch = format!(
                    r#"{{"status":{{"targetPrimary":"{new}","targetPrimaryTimestamp":"{now}","phase":"Switchover in progress"}}}}"#
                );
                namespace
                    .kubectl(&[
                        "patch",
                        &self.object(),
                        "--subresource=status",
                        "--type=merge",
                        "-p",
                        &patch,
                    ])
                    .ok();
            }
            Keeper::Patroni => {
                let words = [
                    "patronictl",
                    "-c",
                    "/etc/patroni/patroni.yaml",
                    "switchover",
                    &self.name,
                ];
                let more = ["--leader", &old, "--candidate", &new, "--force"];
                namespace.exec(&old, "patroni", &[&words[..], &more].concat()).ok();
            }
        }
        self.until_primary(namespace, |primary| primary == new)
    }

    /// Ends the primary's pod as a power cut would, and waits for another primary.
    #[track_caller]
    pub fn kill_primary(&self, namespace: &Namespace) -> String {
        let old = self.primary(namespace);
        namespace
            .kubectl(&["delete", "pod", &old, "--grace-period=0", "--force"])
            .ok();
        match self.keeper {
            Keeper::CloudNativePG => self.until_primary(namespace, |primary| primary != old),
            // The StatefulSet may bring the same pod back within the lock's time.
            Keeper::Patroni => self.until_primary(namespace, |_| true),
        }
    }

    #[track_caller]
    fn until_primary(&self, namespace: &Namespace, is: impl Fn(&str) -> bool) -> String {
        namespace.until("the new primary takes writes", CHANGE, |namespace| {
            let primary = self.try_primary(namespace).filter(|primary| is(primary))?;
            let answer = self.psql_in(namespace, &primary, "postgres", "SELECT pg_is_in_recovery()");
            (answer.code == Some(0) && answer.text() == "f").then_some(primary)
        })
    }

    #[track_caller]
    fn another(&self, namespace: &Namespace, primary: &str) -> String {
        let pods = namespace.list("pods", &self.selector());
        let names = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str());
        let members = names.filter(|name| name.strip_prefix(&self.name).is_some_and(|rest| rest.len() == 2));
        let mut others = members.filter(|name| *name != primary);
        others
            .next()
            .unwrap_or_else(|| panic!("{} has one member only", self.name))
            .to_owned()
    }
}
