//! Memory at a size that this machine has no disk for: a data directory with relations full of holes.

use std::fs::File;

use hardstorage_e2e::Cluster;

use crate::database::Database;
use crate::sample::measure;
use crate::table::Table;
use crate::tools::Tools;

const BACKUP: &str = "full backup of a sparse database";
const RESTORE: &str = "restore of a sparse database";
const GIB: u64 = 1 << 30;

/// A small cluster of its own with `gib` segments of one relation, every page of them empty. Each page is read, sent,
/// compared and mapped like any other; only its bytes take no room.
pub fn sparse(database: &Database, tools: &Tools, gib: u64, table: &mut Table) {
    let cluster = Cluster::builder(18).durable().start();
    let oid = cluster.value("SELECT oid FROM pg_database WHERE datname = 'postgres'");
    let folder = cluster.data().join("base").join(oid);
    for segment in 0..gib {
        let name = if segment == 0 {
            "999999".to_owned()
        } else {
            format!("999999.{segment}")
        };
        let path = folder.join(name);
        File::create(&path)
            .and_then(|file| file.set_len(GIB))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&folder).unwrap());
        std::os::unix::fs::chown(&path, Some(owner), None).unwrap();
    }
    let (repo, _) = tools.our_repository("sparse");
    let connection = cluster.connection();
    let args = ["backup", "db1", "--pg-connection", &connection, "--repo", &repo];
    let log = tools.path("log");
    table.add(
        BACKUP,
        "pg_hardstorage",
        measure(tools.ours.command(&args), cluster.postmaster(), &log),
    );
    let target = tools.path("target").display().to_string();
    let args = ["restore", "db1", "latest", "--target", &target, "--repo", &repo];
    table.add(
        RESTORE,
        "pg_hardstorage",
        tools.measure(tools.ours.command(&args), database),
    );
    tools.remove("target");
    tools.remove("sparse");
}
