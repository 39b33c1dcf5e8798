//! What distance costs: the same backup and restore with a directory, and with an object store behind a network.

use std::time::Duration;

use hardstorage_e2e::{Distance, Hardstorage, ObjectStore, url_by};

use crate::database::Database;
use crate::sample::settle;
use crate::table::Table;
use crate::tools::Tools;

const BACKUP: &str = "full backup, the repository far away";
const RESTORE: &str = "restore, the repository far away";
const DIRECTORY: &str = "a directory";

/// MinIO on this machine, which shares its processors with the rest, at no distance and at `milliseconds`.
pub fn away(database: &Database, tools: &Tools, milliseconds: u64, rounds: u32, table: &mut Table) {
    let store = ObjectStore::minio();
    let mut product = Hardstorage::new();
    for (name, value) in store.credentials() {
        product.set(name, value);
    }
    let network = Distance::before(store.socket(), Duration::from_millis(milliseconds));
    let target = tools.path("target").display().to_string();
    let connection = database.cluster().connection();
    let warm = database.bytes() * 3 / 2;
    for round in 0..rounds {
        let near = format!("near-{round}");
        let far = format!("far-{round}");
        store.bucket(&near);
        store.bucket(&far);
        let directory = format!("file://{}", tools.empty("directory").display());
        let mut places = [
            (DIRECTORY, directory),
            ("MinIO, 0 ms", store.url(&near)),
            ("pg_hardstorage", url_by(&network.endpoint(), &far)),
        ];
        places.rotate_left(round as usize % 3);
        for (who, repo) in &places {
            product.run(&["repo", "init", repo]).ok();
            settle(warm);
            let args = ["backup", "db1", "--pg-connection", &connection, "--repo", repo];
            table.add(BACKUP, who, tools.measure(product.command(&args), database));
        }
        for (who, repo) in &places {
            settle(warm);
            let args = ["restore", "db1", "latest", "--target", &target, "--repo", repo];
            table.add(RESTORE, who, tools.measure(product.command(&args), database));
            tools.remove("target");
        }
    }
}
