//! A database with a life of its own: subscriptions, triggers of events, a background job, row security; and whoever it
//! would reach if it could.

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddrV4, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use hardstorage_e2e::{Cluster, free_loopback};

use crate::recover::in_database;

/// What a background job of the origin leaves in its data directory when it ends.
pub const JOB: &str = "autoprewarm.blocks";
/// Whether its library is loaded: a setting that it brings.
pub const LIBRARY: &str = "SELECT count(*) FROM pg_settings WHERE name = 'pg_prewarm.autoprewarm_interval'";

/// A place that is connected to, and counts how often.
pub struct Doorbell {
    pub address: SocketAddrV4,
    rung: Arc<AtomicU32>,
}

impl Doorbell {
    pub fn new() -> Doorbell {
        let address = free_loopback(5432);
        let listener = TcpListener::bind((address, 5432)).unwrap();
        let rung = Arc::new(AtomicU32::new(0));
        let counted = rung.clone();
        thread::spawn(move || {
            for _ in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Doorbell {
            address: SocketAddrV4::new(address, 5432),
            rung,
        }
    }

    pub fn rung(&self) -> u32 {
        self.rung.load(Ordering::SeqCst)
    }
}

/// A live server with a slot that somebody else consumes.
pub fn publisher(major: u16) -> Cluster {
    let mut publisher = Cluster::builder(major).set("wal_level", "logical").make();
    let rules = publisher.data().join("pg_hba.conf");
    let mut rules = File::options().append(true).open(rules).unwrap();
    rules
        .write_all(b"host postgres pgbackup 0.0.0.0/0 scram-sha-256\n")
        .unwrap();
    publisher.start();
    publisher.sql("CREATE PUBLICATION p FOR ALL TABLES");
    publisher.sql("SELECT pg_create_logical_replication_slot('orders', 'pgoutput')");
    publisher
}

/// How far the slot is.
pub const SLOT: &str = "SELECT concat_ws(' ', active, restart_lsn, confirmed_flush_lsn) FROM pg_replication_slots";

/// A subscription that is enabled, to a server and slot that are there already.
pub fn subscribe(source: &Cluster, name: &str, to: SocketAddrV4) {
    let (host, port) = (to.ip(), to.port());
    source.sql(&format!(
        "CREATE SUBSCRIPTION {name} CONNECTION 'host={host} port={port} user=pgbackup password=pgbackup dbname=postgres' \
         PUBLICATION p WITH (connect = false, slot_name = 'orders')"
    ));
    source.sql(&format!("ALTER SUBSCRIPTION {name} ENABLE"));
}

/// A database with a life of its own, which its server lets rest.
pub fn origin(major: u16) -> Cluster {
    let mut source = Cluster::builder(major)
        .set("max_logical_replication_workers", "0")
        .start();
    source.sql("ALTER SYSTEM SET shared_preload_libraries = 'pg_prewarm'");
    source.restart();
    source.sql("CREATE TABLE orders AS SELECT n, 'order ' || n AS text FROM generate_series(1, 5000) n");
    source.sql("CREATE UNIQUE INDEX orders_n ON orders (n)");
    // A policy that hides every row, from the owner too.
    source.sql("ALTER TABLE orders ENABLE ROW LEVEL SECURITY");
    source.sql("ALTER TABLE orders FORCE ROW LEVEL SECURITY");
    source.sql("CREATE EXTENSION dblink");
    // A database that keeps strangers out.
    source.sql("CREATE DATABASE app");
    in_database(&source, "app", "CREATE TABLE items AS SELECT 1 AS n");
    source.sql("REVOKE CONNECT ON DATABASE app FROM PUBLIC");
    source.sql("ALTER DATABASE app CONNECTION LIMIT 0");
    source.sql("CREATE DATABASE closed");
    source.sql("ALTER DATABASE closed ALLOW_CONNECTIONS false");
    // Somebody has amcheck already, elsewhere.
    in_database(&source, "app", "CREATE SCHEMA mine");
    in_database(&source, "app", "CREATE EXTENSION amcheck SCHEMA mine");
    // A role of that name that could do everything.
    source.sql("CREATE ROLE hardstorage_drill SUPERUSER CREATEDB REPLICATION PASSWORD 'x' CONNECTION LIMIT 0");
    source.sql("GRANT pg_execute_server_program TO hardstorage_drill");
    source.sql("ALTER ROLE hardstorage_drill SET search_path = nowhere");
    source.sql("ALTER DATABASE postgres SET default_transaction_read_only = off");
    // What is done to tables is written down, whoever does it.
    source.sql("CREATE TABLE fired (tag text)");
    source.sql(
        "CREATE FUNCTION write_down() RETURNS event_trigger LANGUAGE plpgsql AS \
         'BEGIN INSERT INTO public.fired VALUES (tg_tag); END'",
    );
    source.sql("CREATE EVENT TRIGGER ddl ON ddl_command_end EXECUTE FUNCTION write_down()");
    source.sql("ALTER EVENT TRIGGER ddl ENABLE ALWAYS");
    if major >= 17 {
        source.sql(
            "CREATE FUNCTION keep_out() RETURNS event_trigger LANGUAGE plpgsql AS \
             $$BEGIN IF session_user = 'hardstorage_drill' THEN RAISE 'not you'; END IF; END$$",
        );
        source.sql("CREATE EVENT TRIGGER login ON login EXECUTE FUNCTION keep_out()");
    }
    source
}
