//! A database of a few hundred KiB that still is one: what initdb makes for comfort (views, help, collations, text search,
//! two more databases) is taken out of the catalogues, because a golden repository stays in the tree for ever.
//!
//! Nobody should do this to a database that has a use. Everything that the goldens ask of it works: tables, WAL, backups,
//! promotions.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use hardstorage_e2e::{Builder, Cluster};

/// Each statement ends with an empty line, as `postgres --single -j` wants it. Functions go last: none of the others may
/// miss one.
const TAKE_OUT: &str = "\
DROP SCHEMA information_schema CASCADE;

DELETE FROM pg_description;

DELETE FROM pg_shdescription;

DELETE FROM pg_collation WHERE oid NOT IN (100, 950, 951);

DELETE FROM pg_conversion;

CREATE TABLE views AS SELECT oid FROM pg_class WHERE relkind = 'v'
AND relname NOT IN ('pg_stat_replication', 'pg_stat_wal_receiver', 'pg_replication_slots');

DELETE FROM pg_rewrite WHERE ev_class IN (SELECT oid FROM views);

DELETE FROM pg_statistic;

DELETE FROM pg_init_privs;

DELETE FROM pg_depend;

DELETE FROM pg_attribute WHERE attrelid IN (SELECT oid FROM views);

DELETE FROM pg_type WHERE typrelid IN (SELECT oid FROM views);

DELETE FROM pg_class WHERE oid IN (SELECT oid FROM views);

DROP TABLE views;

DELETE FROM pg_ts_config_map;

DELETE FROM pg_ts_dict;

DELETE FROM pg_ts_parser;

DELETE FROM pg_ts_template;

DELETE FROM pg_ts_config;

UPDATE pg_database SET datistemplate = false;

DROP DATABASE template1;

DROP DATABASE template0;

CREATE TABLE types AS
SELECT unnest(ARRAY[16, 17, 18, 19, 20, 21, 23, 25, 26, 27, 28, 29, 30, 700, 701, 1184, 2283, 3220]::oid[]) AS t;

DELETE FROM pg_amproc WHERE amproclefttype NOT IN (SELECT t FROM types);

DELETE FROM pg_amop WHERE amoplefttype NOT IN (SELECT t FROM types);

DELETE FROM pg_operator WHERE oprleft NOT IN (SELECT t FROM types) OR oprright NOT IN (SELECT t FROM types);

CREATE TABLE kept AS
SELECT castfunc::oid AS f FROM pg_cast WHERE castsource IN (SELECT t FROM types)
UNION SELECT amproc::oid FROM pg_amproc
UNION SELECT oprcode::oid FROM pg_operator
UNION SELECT unnest(ARRAY[typinput::oid, typoutput::oid]) FROM pg_type WHERE typcategory IN ('N', 'S', 'P', 'B', 'Z')
UNION SELECT unnest(ARRAY[aggtransfn::oid, aggfinalfn::oid]) FROM pg_aggregate
WHERE aggfnoid::text ~ '(^|[.])(count|string_agg|bool_or)$'
UNION SELECT amhandler::oid FROM pg_am
UNION SELECT oid FROM pg_proc WHERE proname ~ '^(array_(in|out|recv|send|subscript_handler)|textcat|textanycat|anytextcat)$'
UNION SELECT oid FROM pg_proc WHERE proname ~ '^(count|string_agg|md5|repeat|generate_series|now|bool_or|oidvector.*)$'
UNION SELECT oid FROM pg_proc WHERE proname ~ '^pg_(switch_wal|current_wal.*|walfile.*|create_restore_point|promote)$'
UNION SELECT oid FROM pg_proc WHERE proname ~ '^pg_(is_in_recovery|get_wal_replay.*|ls_waldir|drop_replication_slot)$'
UNION SELECT oid FROM pg_proc WHERE proname ~ '^pg_(stat_get_(wal_senders|activity|wal_receiver)|get_replication_slots)$'
UNION SELECT oid FROM pg_proc WHERE proname ~ '^pg_(wal_replay.*|last_wal.*)$';

DELETE FROM pg_aggregate WHERE aggtransfn::oid NOT IN (SELECT f FROM kept);

DELETE FROM pg_cast WHERE castsource NOT IN (SELECT t FROM types) OR casttarget NOT IN (SELECT t FROM types);

DELETE FROM pg_type WHERE typrelid = 0 AND typtype IN ('b', 'r', 'm', 'd') AND oid NOT IN (SELECT t FROM types)
AND oid < 12000 AND oid NOT IN (SELECT atttypid FROM pg_attribute)
AND oid NOT IN (SELECT typarray FROM pg_type WHERE oid IN (SELECT t FROM types));

DROP TABLE types;

DELETE FROM pg_proc WHERE oid NOT IN (SELECT f FROM kept);

DROP TABLE kept;

VACUUM FULL FREEZE;

";

const SETTINGS: &str = "\
shared_buffers = 16MB
wal_level = replica
autovacuum = off
max_wal_size = 64MB
min_wal_size = 2MB
log_line_prefix = '%m [%p] %b '
lc_messages = 'C'
timezone = 'UTC'
";

/// Such a server, with segments of 1 MiB, running.
pub fn start(recipe: Builder) -> Cluster {
    let mut cluster = recipe.wal_segment_size(1).make();
    for (file, text) in [("postgresql.conf", SETTINGS), ("pg_ident.conf", "")] {
        fs::write(cluster.data().join(file), text).unwrap();
    }
    let mut command = cluster.tool_command("postgres");
    command
        .args(["--single", "-j", "-O", "-D"])
        .arg(cluster.data())
        .arg("postgres");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(TAKE_OUT.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !said.contains("ERROR"),
        "postgres --single: {said}"
    );
    cluster.start();
    // What made it is not worth keeping.
    cluster.sql("SELECT pg_switch_wal()");
    cluster.sql("CHECKPOINT");
    cluster
}
