//! The data set: `pgbench` at a scale, text that compresses, bytes that do not; 2.1 GB at scale 100.

use std::fs;
use std::path::Path;

use hardstorage_e2e::{Cluster, run};

/// The server with the data.
pub struct Database {
    cluster: Cluster,
}

impl Database {
    /// Builds it; at scale 100 that takes a minute or two.
    pub fn build(scale: u32) -> Database {
        eprintln!("building the data set at scale {scale}");
        let cluster = Cluster::builder(18)
            .durable()
            .set("shared_buffers", "1GB")
            .set("max_wal_size", "4GB")
            .set("checkpoint_timeout", "30min")
            .set("summarize_wal", "on")
            .set("max_slot_wal_keep_size", "-1")
            .start();
        cluster
            .tool("pgbench", &["-i", "-q", "-s", &scale.to_string(), "postgres"])
            .ok();
        cluster.sql(&format!(
            "CREATE TABLE md5t AS SELECT g AS id, md5(g::text) || md5((g + 1)::text) AS text FROM generate_series(1, {}) g",
            scale * 13_000
        ));
        cluster.sql("CREATE EXTENSION pgcrypto");
        cluster.sql(&format!(
            "CREATE TABLE blobs AS SELECT g AS id, gen_random_bytes(1024) AS bytes FROM generate_series(1, {}) g",
            scale * 2_800
        ));
        cluster.sql("VACUUM ANALYZE");
        cluster.sql("CHECKPOINT");
        Database { cluster }
    }

    /// The server.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The size of the data directory without WAL.
    pub fn bytes(&self) -> u64 {
        tree_bytes(self.cluster.data()) - tree_bytes(&self.cluster.data().join("pg_wal"))
    }

    /// Changes rows at random for so long; the transactions per second.
    pub fn load(&self, seconds: u32) -> f64 {
        let mut pgbench = self.cluster.tool_command("pgbench");
        pgbench.args(["-n", "-c", "4", "-j", "2", "-T", &seconds.to_string(), "postgres"]);
        let said = run(pgbench, std::time::Duration::from_secs(u64::from(seconds) + 120)).ok();
        let tps = said
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix("tps = "))
            .and_then(|rest| rest.split(' ').next());
        // What a backup then adds depends on how many pages that hit, so on the machine of this run.
        if let Some(count) = said
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix("number of transactions actually processed: "))
        {
            eprintln!("  pgbench: {count} transactions");
        }
        tps.and_then(|text| text.parse().ok())
            .unwrap_or_else(|| panic!("pgbench told no tps\n{said}"))
    }

    /// The same, and everything is in the files afterwards.
    pub fn change(&self, seconds: u32) {
        self.load(seconds);
        self.cluster.sql("CHECKPOINT");
    }
}

/// The bytes of all files below a directory; what vanishes meanwhile does not count.
pub fn tree_bytes(root: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(root) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => tree_bytes(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}
