//! Drills on real servers: a copy of a database that has a life of its own is prepared, and then asked by somebody who can
//! do no harm.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use hardstorage_e2e::{Answer, Cluster};
use serde_json::{Value, json};

use crate::drill_origin::{Doorbell, JOB, LIBRARY, SLOT, origin, publisher, subscribe};
use crate::recover::{programs, recover};
use crate::site::{Site, step};

const PAGE: u64 = 8192;

/// Writes the checks, and asks a copy.
#[track_caller]
pub fn drill(site: &Site, major: u16, data: &Path, checks: &Value, more: &[&str]) -> Answer {
    let words = words(site, data, &checks.to_string(), &programs(major), more);
    site.product.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Writes the checks into a file of their own; the command line that asks them.
pub fn words(site: &Site, data: &Path, checks: &str, bin: &Path, more: &[&str]) -> Vec<String> {
    static FILES: AtomicU32 = AtomicU32::new(0);
    let file = site.place(&format!("checks-{}.json", FILES.fetch_add(1, Ordering::Relaxed)));
    fs::write(&file, checks).unwrap();
    let paths = [("--data", data), ("--checks", &file), ("--pg-bin", bin)];
    let paths = paths
        .iter()
        .flat_map(|(option, path)| [(*option).to_owned(), path.display().to_string()]);
    let fixed = ["drill", "check"].map(str::to_owned);
    fixed
        .into_iter()
        .chain(paths)
        .chain(more.iter().map(|&word| word.to_owned()))
        .collect()
}

/// A check that has to answer this.
pub fn expecting(name: &str, sql: &str, expect: &str) -> Value {
    json!({"name": name, "database": "postgres", "sql": sql, "expect": expect})
}

/// The check of a name.
#[track_caller]
pub fn check<'a>(result: &'a Value, name: &str) -> &'a Value {
    let checks = result["checks"].as_array().unwrap();
    checks
        .iter()
        .find(|check| check["name"] == name)
        .unwrap_or_else(|| panic!("{name}: {result:#}"))
}

/// The names of the checks that failed.
#[track_caller]
pub fn failed(result: &Value) -> Vec<&str> {
    let checks = result["checks"].as_array().unwrap().iter();
    checks
        .filter(|check| check["passed"] == false)
        .map(|check| check["name"].as_str().unwrap())
        .collect()
}

/// What an honest copy answers.
fn honest(fired: &str) -> Vec<Value> {
    let about_me = "SELECT concat_ws(' ', rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication, \
                    rolbypassrls, rolconnlimit) FROM pg_roles WHERE rolname = current_user";
    vec![
        expecting("rows that a policy hides", "SELECT count(*) FROM orders", "5000"),
        json!({"name": "a database for few", "database": "app", "sql": "TABLE items", "expect": "1"}),
        expecting("who asks", about_me, "t f f f f t -1"),
        expecting(
            "what that role is a member of",
            "SELECT string_agg(roleid::regrole::text, ',') FROM pg_auth_members WHERE member = current_user::regrole",
            "pg_read_all_data",
        ),
        expecting("a standby", "SELECT pg_is_in_recovery()", "t"),
        expecting("of nobody", "SELECT count(*) FROM pg_stat_wal_receiver", "0"),
        expecting("no trigger fired", "SELECT count(*) FROM fired", fired),
        expecting(
            "each fires as before",
            "SELECT evtenabled FROM pg_event_trigger WHERE evtname = 'ddl'",
            "A",
        ),
        expecting(
            "no subscription is enabled",
            "SELECT count(*) FROM pg_subscription WHERE subenabled",
            "0",
        ),
        expecting("no library", LIBRARY, "0"),
        json!({"name": "it only has to succeed", "database": "postgres", "sql": "SELECT 1; SELECT 2"}),
    ]
}

/// What nobody may do, each with what it would leave; the last one must be asked all the same.
fn harmful(place: &Path) -> Vec<Value> {
    let place = place.display();
    let sqls = [
        "SET transaction_read_only = off; INSERT INTO orders VALUES (0)".to_owned(),
        "BEGIN READ WRITE; DELETE FROM orders; COMMIT".to_owned(),
        "CREATE TEMP TABLE mine (n int)".to_owned(),
        format!("COPY orders TO PROGRAM 'cat > {place}'"),
        format!("COPY orders TO '{place}'"),
        format!("\\! touch {place}"),
        format!("\\copy orders to {place}"),
        format!("SELECT lo_export(1, '{place}')"),
        "SELECT pg_promote()".to_owned(),
        "ALTER SYSTEM SET primary_conninfo = 'host=elsewhere'".to_owned(),
        "SELECT pg_read_file('postgresql.conf')".to_owned(),
        "SET ROLE postgres".to_owned(),
        "SET SESSION AUTHORIZATION postgres".to_owned(),
        "SELECT dblink_connect('user=postgres host=' || current_setting('unix_socket_directories'))".to_owned(),
        "SELECT pg_terminate_backend(pg_backend_pid())".to_owned(),
        "SELECT 1; SELECT nowhere".to_owned(),
    ];
    let named = sqls
        .iter()
        .map(|sql| json!({"name": sql, "database": "postgres", "sql": sql}));
    named.collect()
}

/// Makes an index wrong without telling its page's checksum.
fn damage(copy: &Path, index: &str) {
    let path = copy.join(index);
    let mut file = File::options().read(true).write(true).open(path).unwrap();
    // The key of a tuple in the middle of the first leaf: the pages end with 16 bytes of the B-tree, and before them lie
    // the tuples, 16 bytes each, of which the last four are a small number and padding.
    let key = SeekFrom::Start(2 * PAGE - 16 - 16 * 50 + 8);
    let mut bytes = [0; 4];
    file.seek(key).unwrap();
    file.read_exact(&mut bytes).unwrap();
    assert!((1..5000).contains(&u32::from_ne_bytes(bytes)), "{bytes:?} is no key");
    file.seek(key).unwrap();
    file.write_all(&bytes.map(|byte| !byte)).unwrap();
}

fn drilled(major: u16) {
    let publisher = publisher(major);
    let source = origin(major);
    let bell = Doorbell::new();
    subscribe(&source, "heard", bell.address);
    subscribe(&source, "orders", publisher.address());
    let index = source.value("SELECT pg_relation_filepath('orders_n')");
    let fired = source.value("SELECT count(*) FROM fired");
    let site = Site::new();
    site.backup(&source);
    let slot = publisher.value(SLOT);

    step("prepared");
    let (result, copy) = recover(&site, major, "copy", &["--hand-over", "drill"]);
    assert_eq!(
        result["disabled_subscriptions"].as_array().unwrap().len(),
        2,
        "{result}"
    );
    assert!(copy.join("standby.signal").exists() && !copy.join("recovery.signal").exists());
    let settings = fs::read_to_string(copy.join("postgresql.auto.conf")).unwrap();
    assert!(
        settings.contains("primary_conninfo = ''") && !settings.contains("pg_prewarm"),
        "{settings}"
    );

    step("asked");
    let place = site.place("harm");
    let (honest, harmful) = (honest(&fired), harmful(&place));
    let answer = drill(&site, major, &copy, &json!(honest), &["-o", "json"]).ok();
    let result = answer.result();
    assert_eq!(
        result["databases"],
        json!(["app", "postgres", "template1"]),
        "{result:#}"
    );
    assert!(result["indexes_checked"].as_u64().unwrap() > 300, "{result:#}");
    assert_eq!(result["indexes_unchecked"], 0, "{result:#}");
    assert_eq!(
        result["notes"],
        json!(["database closed allows no connections, and was not looked at"])
    );
    assert_eq!(
        result["checks"].as_array().unwrap().len(),
        9 + honest.len(),
        "{result:#}"
    );

    step("what cannot be done, and what is asked all the same");
    let slow = json!({"name": "slow", "database": "postgres", "timeout_seconds": 1,
        "sql": "SET statement_timeout = 0; SELECT pg_sleep(600)"});
    let active = "SELECT count(*) FROM pg_stat_activity WHERE usename = current_user AND state = 'active'";
    let after = [
        slow,
        expecting("nothing goes on", active, "1"),
        expecting("wrong", "SELECT 'é|a'", "x"),
    ];
    let all = [&harmful[..], &after, &honest].concat();
    let answer = drill(&site, major, &copy, &json!(all), &["-o", "json"]).exits(9);
    let result = answer.result();
    let names = harmful.iter().map(|check| check["name"].as_str().unwrap());
    assert_eq!(
        failed(&result),
        names.chain(["slow", "wrong"]).collect::<Vec<_>>(),
        "{result:#}"
    );
    assert_eq!(check(&result, "slow")["error"], "no answer within 1 s", "{result:#}");
    assert_eq!(check(&result, "wrong")["actual"], "é|a", "{result:#}");
    assert!(!place.exists());

    step("no index is read when there is no time");
    let answer = drill(&site, major, &copy, &json!([]), &["--index-limit", "0s", "-o", "json"]).ok();
    assert_eq!(answer.result()["indexes_checked"], 0, "{answer}");

    step("with the libraries of the origin, and none of their workers");
    let libraries = json!([expecting("library", LIBRARY, "1")]);
    drill(&site, major, &copy, &libraries, &["--preload"]).ok();
    assert!(!copy.join(JOB).exists(), "a background job ran");

    step("a damaged index");
    let directory = copy.to_str().unwrap();
    source.tool("pg_checksums", &["--disable", "-D", directory]).ok();
    damage(&copy, &index);
    let answer = drill(&site, major, &copy, &json!(honest), &["-o", "json"]).exits(9);
    let result = answer.result();
    assert_eq!(failed(&result), ["index public.orders_n"], "{result:#}");
    assert_eq!(bell.rung(), 0, "somebody was connected to");
    assert_eq!(publisher.value(SLOT), slot);

    if ![15, 18].contains(&major) {
        return;
    }
    step("the same copy without what keeps it quiet");
    let more = ["--subscriptions", "keep"];
    let (_, loud) = recover(&site, major, "loud", &more);
    let mut loud = Cluster::builder(major).over(&loud).start();
    let active = "SELECT active FROM pg_replication_slots";
    loud.until("it connects to both", |_| {
        (bell.rung() > 0 && publisher.value(active) == "t").then_some(())
    });
    loud.stop();
    assert!(
        loud.data().join(JOB).exists(),
        "this test cannot tell whether a job runs"
    );
}

#[test]
fn a_copy_is_asked_and_does_no_harm_15() {
    drilled(15);
}

#[test]
fn a_copy_is_asked_and_does_no_harm_16() {
    drilled(16);
}

#[test]
fn a_copy_is_asked_and_does_no_harm_17() {
    drilled(17);
}

#[test]
fn a_copy_is_asked_and_does_no_harm_18() {
    drilled(18);
}

/// A copy of a small database that is prepared for a drill.
pub fn prepared(site: &Site, source: &Cluster) -> PathBuf {
    site.backup(source);
    recover(site, source.major(), "copy", &["--hand-over", "drill"]).1
}
