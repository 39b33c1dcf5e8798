//! Whether a restore slows down as backups build on one another: the first of many beside the last.

use crate::backups::our_backups;
use crate::database::Database;
use crate::sample::settle;
use crate::table::Table;
use crate::tools::Tools;

const RESTORE: &str = "restore after many backups";

/// Makes the backups, each after a moment of load, and restores the first and the last in turn.
pub fn restores(database: &Database, tools: &Tools, backups: u32, rounds: u32, table: &mut Table) {
    let (repo, _) = tools.our_repository("many");
    let connection = database.cluster().connection();
    for made in 1..=backups {
        if made > 1 {
            database.change(1);
        }
        let args = ["backup", "db1", "--pg-connection", &connection, "--repo", &repo];
        tools.ours.run(&args).ok();
    }
    let ids = our_backups(tools, &repo);
    assert_eq!(ids.len(), backups as usize);
    let target = tools.path("target").display().to_string();
    let mut order = [("the first backup", &ids[0]), ("pg_hardstorage", &ids[ids.len() - 1])];
    for _ in 0..rounds {
        order.rotate_left(1);
        for (who, id) in order {
            settle(database.bytes() * 3 / 2);
            let args = ["restore", "db1", id, "--target", &target, "--repo", &repo];
            let sample = tools.measure(tools.ours.command(&args), database);
            table.add(RESTORE, who, sample);
            tools.remove("target");
        }
    }
    tools.remove("many");
}
