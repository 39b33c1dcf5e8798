//! Load: a pod that inserts batch after batch through the Service of the primary, and writes down each that was committed.
//! A batch that was not confirmed may or may not be there; one that was confirmed has to be, whole.

use std::collections::BTreeSet;
use std::time::Duration;

use super::database::Database;
use super::namespace::Namespace;
use super::restored::parse;

const POD: &str = "writer";
/// Rows in each batch.
pub(super) const BATCH: u32 = 20;
const PATIENCE: Duration = Duration::from_mins(2);

/// The running load.
#[derive(Debug)]
pub struct Writer;

impl Writer {
    /// Makes the table `ledger` in the database `app` as its owner, and begins to write.
    #[track_caller]
    pub fn start(namespace: &Namespace, database: &Database) -> Writer {
        let image = Database::image();
        let host = database.service();
        let secret = format!("{}-app", database.name());
        // One connection for each batch: a broken one must not end the load.
        let script = format!(
            r#"
            say() {{ psql "host={host} dbname=app connect_timeout=2" -qAtX -v ON_ERROR_STOP=1 -c "$1"; }}
            until say "CREATE TABLE IF NOT EXISTS ledger (batch int NOT NULL, note text NOT NULL)"; do :; done
            n=0
            while [ ! -e /tmp/enough ]; do
                n=$((n + 1))
                if say "INSERT INTO ledger SELECT $n, md5(random()::text) FROM generate_series(1, {BATCH})"; then
                    echo "committed $n"
                fi
            done
            echo ended
            "#
        );
        let manifest = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD},
            "spec": {
                "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
                "securityContext": {"runAsNonRoot": true, "runAsUser": 26, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": POD, "image": image, "command": ["bash", "-c", script],
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                    "env": [
                        {"name": "PGUSER", "valueFrom": {"secretKeyRef": {"name": secret, "key": "username"}}},
                        {"name": "PGPASSWORD", "valueFrom": {"secretKeyRef": {"name": secret, "key": "password"}}},
                    ],
                }],
            },
        });
        namespace.apply(&manifest.to_string());
        namespace.wait(&format!("pod/{POD}"), "condition=Ready", PATIENCE);
        Writer.until_more(namespace, 3);
        Writer
    }

    /// The batches that were committed so far.
    #[track_caller]
    pub fn committed(&self, namespace: &Namespace) -> BTreeSet<u32> {
        let said = namespace.logs(POD);
        let numbers = said.lines().filter_map(|line| line.strip_prefix("committed "));
        numbers.map(|number| number.parse().unwrap()).collect()
    }

    /// Waits for so many batches more.
    #[track_caller]
    pub fn until_more(&self, namespace: &Namespace, batches: usize) {
        let before = self.committed(namespace).len();
        namespace.until("the load goes on", PATIENCE, |namespace| {
            (self.committed(namespace).len() >= before + batches).then_some(())
        });
    }

    /// The batches that the primary holds, each of them whole.
    #[track_caller]
    pub fn held(namespace: &Namespace, database: &Database, name: &str) -> BTreeSet<u32> {
        parse(&database.psql(namespace, name, BATCHES).ok())
    }

    /// Ends the load; every batch that was committed.
    #[track_caller]
    pub fn stop(self, namespace: &Namespace) -> BTreeSet<u32> {
        namespace.exec(POD, POD, &["touch", "/tmp/enough"]).ok();
        namespace.wait(&format!("pod/{POD}"), "jsonpath={.status.phase}=Succeeded", PATIENCE);
        assert!(
            namespace.logs(POD).ends_with("ended\n"),
            "the writer has not ended by itself"
        );
        let committed = self.committed(namespace);
        namespace.delete(&[&format!("pod/{POD}")]);
        committed
    }
}

/// What a query has to answer that proves a batch whole: one line `batch|rows` for each.
pub(super) const BATCHES: &str = "SELECT batch, count(*) FROM ledger GROUP BY 1 ORDER BY 1";

/// The whole batches in such an answer; fails the test on a part of one.
#[track_caller]
pub(super) fn whole_batches(rows: impl IntoIterator<Item = (u32, u32)>) -> BTreeSet<u32> {
    let rows = rows.into_iter();
    rows.map(|(batch, count)| {
        assert_eq!(count, BATCH, "batch {batch} is not whole");
        batch
    })
    .collect()
}
