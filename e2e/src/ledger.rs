//! The rows that a story writes, and the proof that a database holds exactly the rows of a moment: their number and a
//! hash over all of them.

use crate::postgres::Cluster;

/// What a database held at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    rows: u64,
    hash: String,
}

impl Ledger {
    /// Makes the table.
    #[track_caller]
    pub fn create(cluster: &Cluster) {
        cluster.sql("CREATE TABLE ledger (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text NOT NULL)");
    }

    /// Adds rows in one transaction; what the table holds then.
    #[track_caller]
    pub fn add(cluster: &Cluster, chapter: &str, rows: u32) -> Ledger {
        cluster.sql(&format!(
            "INSERT INTO ledger (note) SELECT '{chapter} ' || md5(random()::text) FROM generate_series(1, {rows})"
        ));
        Ledger::read(cluster)
    }

    /// What the table holds.
    #[track_caller]
    pub fn read(cluster: &Cluster) -> Ledger {
        let sql = "SELECT count(*), md5(coalesce(string_agg(id || note, ',' ORDER BY id), '')) FROM ledger";
        let row = cluster.sql(sql).remove(0);
        Ledger {
            rows: row[0].as_ref().unwrap().parse().unwrap(),
            hash: row[1].clone().unwrap(),
        }
    }

    /// Their number.
    pub fn rows(&self) -> u64 {
        self.rows
    }
}
