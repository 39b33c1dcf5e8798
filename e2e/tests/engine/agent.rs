//! One agent that looks after several deployments, on the days when one of them hangs and when it is killed itself.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

use hardstorage_e2e::{Background, Cluster, Ledger, free_loopback, get, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::site::{PATIENCE, Site, lsn, step};

/// A schedule has minutes: a window, and what runs at it.
const A_WINDOW: Duration = Duration::from_mins(2);

/// A running agent.
struct Agent {
    process: Background,
    address: SocketAddrV4,
}

impl Agent {
    fn start(site: &Site, name: &str) -> Agent {
        let address = SocketAddrV4::new(free_loopback(9187), 9187);
        let listen = address.to_string();
        Agent {
            process: site.product.start(name, &["agent", "--listen", &listen, "-o", "json"]),
            address,
        }
    }

    fn status(&self) -> Option<Value> {
        let (code, body) = get(self.address, "/status").ok()?;
        assert_eq!(code, 200, "{body}");
        Some(serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
    }

    #[track_caller]
    fn until(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        self.until_within(what, PATIENCE, is)
    }

    #[track_caller]
    fn until_within(&mut self, what: &str, deadline: Duration, is: impl Fn(&Value) -> bool) -> Value {
        let address = self.address;
        let mut last = Value::Null;
        self.process.until(what, deadline, || {
            let (_, body) = get(address, "/status").ok()?;
            last = serde_json::from_str(&body).ok()?;
            is(&last).then(|| last.clone())
        })
    }

    /// Waits until all that the server has written is durable.
    #[track_caller]
    fn until_durable(&mut self, name: &str, cluster: &Cluster) {
        let wanted = lsn(&cluster.value("SELECT pg_current_wal_flush_lsn()"));
        self.until(&format!("{name} is durable"), |status| {
            let durable = &status["deployments"][name]["stream"]["status"]["durable_lsn"];
            durable.as_str().is_some_and(|durable| lsn(durable) >= wanted)
        });
    }

    fn events(&mut self, name: &str) -> Vec<Value> {
        let said = self.process.answer();
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let events = said.stderr.lines().map(parse);
        events.filter(|event: &Value| event["name"] == name).collect()
    }
}

fn streams(status: &Value, name: &str) -> bool {
    status["deployments"][name]["stream"]["status"]["phase"] == "streaming"
}

fn backed_up(status: &Value, name: &str) -> bool {
    status["deployments"][name]["tasks"]["backup"]["last"]["outcome"] == "succeeded"
}

/// Writes the configuration of these servers.
fn configure(site: &Site, more: &str, servers: &[(&str, &Cluster)]) {
    let mut text = format!("{more}\ndeployments:\n");
    for (name, server) in servers {
        let (connection, repo) = (server.connection(), &site.repo);
        text.push_str(&format!(
            "  {name}: {{pg_connection: '{connection}', repo: '{repo}'}}\n"
        ));
    }
    fs::write(configuration(site), text).unwrap();
}

fn configuration(site: &Site) -> PathBuf {
    site.product.config().join("pg_hardstorage.yaml")
}

fn backups(site: &Site, name: &str) -> Vec<String> {
    let list = site.ask(&["list", name]);
    let backups = list["backups"].as_array().unwrap().iter();
    backups
        .map(|backup| backup["backup_id"].as_str().unwrap().to_owned())
        .collect()
}

/// How many were ever taken: of one day, retention keeps the newest only.
fn taken(site: &Site, name: &str) -> usize {
    let list = site.ask(&["list", name, "--include-deleted"]);
    list["backups"].as_array().unwrap().len()
}

/// The rows of a deployment at the end of its archive.
fn restored(site: &Site, name: &str, major: u16) -> Ledger {
    let target = site.place(&format!("restored-{name}"));
    site.run(&["restore", name, "--target", target.to_str().unwrap(), "--to-latest"])
        .ok();
    let mut server = Cluster::builder(major).over(&target).start();
    server.until_promoted();
    Ledger::read(&server)
}

/// Every process that lives, with its parent and its command line.
fn processes() -> BTreeMap<i32, (i32, String)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let Ok(pid) = entry.unwrap().file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        // It may end while it is looked at.
        let read = |name: &str| {
            fs::read(format!("/proc/{pid}/{name}")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let (Ok(stat), Ok(line)) = (read("stat"), read("cmdline")) else {
            continue;
        };
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        let parent = rest.split(' ').nth(1).unwrap().parse().unwrap();
        found.insert(pid, (parent, line.replace('\0', " ")));
    }
    found
}

/// Sends a signal to a server with all its processes.
fn signal_server(server: &Cluster, signal: Signal) {
    let postmaster = i32::try_from(server.postmaster()).unwrap();
    let all = processes();
    let own = all
        .iter()
        .filter(|(pid, (parent, _))| **pid == postmaster || *parent == postmaster);
    for (pid, _) in own {
        // A backend may have ended in between.
        kill_process(Pid::from_raw(*pid).unwrap(), signal).ok();
    }
}

/// The children of an agent that live, as they were called.
fn children_of(agent: u32) -> Vec<String> {
    let mark = format!("--exit-with-parent {agent} ");
    processes()
        .into_values()
        .map(|(_, line)| line)
        .filter(|line| line.contains(&mark))
        .collect()
}

#[test]
fn a_hung_server_and_a_killed_agent_cost_nothing() {
    let one = Cluster::builder(18).start();
    let two = Cluster::builder(15).start();
    let site = Site::new();
    configure(
        &site,
        "schedule: {backup: '* * * * *'}\nagent: {spread: 1s}",
        &[("db1", &one), ("db2", &two)],
    );
    for server in [&one, &two] {
        Ledger::create(server);
        Ledger::add(server, "before the agent", 100);
    }
    let mut agent = Agent::start(&site, "agent");
    let status = agent.until("both stream and have a backup", |status| {
        ["db1", "db2"]
            .iter()
            .all(|name| streams(status, name) && backed_up(status, name))
    });
    assert_eq!(status["config_error"], Value::Null, "{status:#}");
    agent.until("what is kept was decided after the backup", |status| {
        status["deployments"]["db1"]["tasks"]["rotate"]["last"]["outcome"] == "succeeded"
    });

    step("db2 hangs: db1 is streamed, and backed up on schedule");
    signal_server(&two, Signal::STOP);
    let before = taken(&site, "db1");
    Ledger::add(&one, "while the other one hangs", 500);
    agent.until_durable("db1", &one);
    agent.process.until("db1 has two more backups", A_WINDOW * 2, || {
        (taken(&site, "db1") >= before + 2).then_some(())
    });
    let (code, metrics) = get(agent.address, "/metrics").unwrap();
    assert_eq!(code, 200);
    for wanted in [
        "pg_hardstorage_build_info{version=",
        "pg_hardstorage_wal_durable_lsn_bytes{deployment=\"db1\"}",
        "pg_hardstorage_agent_stream_up{deployment=\"db1\"} 1",
        "pg_hardstorage_agent_task_runs_total{deployment=\"db1\",task=\"backup\",outcome=\"succeeded\"}",
        "pg_hardstorage_agent_newest_backup_time_seconds{deployment=\"db2\"}",
    ] {
        assert!(metrics.contains(wanted), "{wanted}\n{metrics}");
    }
    assert_eq!(get(agent.address, "/healthz").unwrap().0, 200);

    step("the agent is killed: its children go with it");
    let pid = agent.process.pid();
    assert!(
        children_of(pid).iter().any(|line| line.contains("wal stream db1")),
        "{:#?}",
        processes()
    );
    agent.process.kill();
    until("nothing of it is left", PATIENCE, || {
        children_of(pid).is_empty().then_some(())
    });

    step("the next one goes on, and the hung server comes back");
    let mut agent = Agent::start(&site, "again");
    agent.until("db1 streams", |status| streams(status, "db1"));
    signal_server(&two, Signal::CONT);
    agent.until("db2 streams", |status| streams(status, "db2"));
    agent.until_within("db2 is backed up", A_WINDOW, |status| backed_up(status, "db2"));
    let wanted = [
        Ledger::add(&one, "at the end", 100),
        Ledger::add(&two, "at the end", 100),
    ];

    step("SIGTERM: nothing of what was received is lost");
    agent.until_durable("db1", &one);
    agent.until_durable("db2", &two);
    let said = agent.process.stop().ok();
    assert_eq!(said.result()["clean_stop"], true, "{said}");
    assert!(children_of(agent.process.pid()).is_empty());
    assert_eq!(restored(&site, "db1", 18), wanted[0]);
    assert_eq!(restored(&site, "db2", 15), wanted[1]);
    site.run(&["wal", "audit", "db1"]).ok();
    site.run(&["wal", "audit", "db2"]).ok();
}

#[test]
fn the_end_makes_the_tail_durable_and_the_next_agent_owes_no_second_backup() {
    let server = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&server);
    // Two minutes ahead at least, so that no window comes in between.
    configure(&site, "schedule: {backup: '@nightly', check: off}", &[("db1", &server)]);
    let mut agent = Agent::start(&site, "agent");
    agent.until("it has a backup and streams", |status| {
        streams(status, "db1") && backed_up(status, "db1")
    });
    let wanted = Ledger::add(&server, "never flushed", 100);
    let said = agent.process.stop().ok();
    assert_eq!(said.result()["clean_stop"], true, "{said}");
    assert!(agent.events("agent.stream.ended").is_empty(), "{said}");
    let first = backups(&site, "db1");

    step("without its memory, too: the repository knows");
    for name in ["again", "forgetful"] {
        let mut agent = Agent::start(&site, name);
        let status = agent.until("it has looked", |status| {
            streams(status, "db1") && status["deployments"]["db1"]["newest_backup_at"].is_string()
        });
        let backup = &status["deployments"]["db1"]["tasks"]["backup"];
        assert!(
            backup["running_since"].is_null() && backup["next_at"].is_string(),
            "{status:#}"
        );
        agent.process.stop().ok();
        fs::remove_file(site.product.home().join(".local/share/pg_hardstorage/agent/state.json")).unwrap();
    }
    assert_eq!(backups(&site, "db1"), first);
    assert_eq!(restored(&site, "db1", 18), wanted);
}

#[test]
fn a_reload_adds_and_removes_and_a_bad_one_changes_nothing() {
    let (one, two) = (Cluster::builder(18).start(), Cluster::builder(15).start());
    let site = Site::new();
    configure(&site, "", &[("db1", &one)]);
    let mut agent = Agent::start(&site, "agent");
    agent.until("it streams", |status| {
        streams(status, "db1") && backed_up(status, "db1")
    });
    let pid = agent.process.pid();

    step("another one beside it is refused");
    let refused = site.product.run(&["agent", "--listen", "127.0.0.1:0"]).exits(7);
    assert!(refused.stderr.contains("conflict.agent_running"), "{refused}");

    step("a mistake is told, and reaches neither the agent nor its children");
    fs::write(configuration(&site), "deployments: {db1: {retentoin: {}}}").unwrap();
    agent.process.signal(Signal::HUP);
    agent.until("it is refused", |status| {
        status["config_error"]["code"] == "usage.invalid_config"
    });
    assert!(
        get(agent.address, "/metrics")
            .unwrap()
            .1
            .contains("pg_hardstorage_agent_config_taken 0")
    );
    let streams_now = || {
        children_of(pid)
            .into_iter()
            .filter(|line| line.contains("wal stream"))
            .collect::<Vec<_>>()
    };
    let stream = processes()
        .into_iter()
        .find(|(_, (_, line))| line.contains(&format!("--exit-with-parent {pid} wal")));
    kill_process(Pid::from_raw(stream.unwrap().0).unwrap(), Signal::KILL).unwrap();
    agent.until("the stream was started again all the same", |status| {
        streams(status, "db1") && status["deployments"]["db1"]["stream"]["restarts"] == 1
    });

    step("a deployment is added");
    configure(&site, "", &[("db1", &one), ("db2", &two)]);
    agent.process.signal(Signal::HUP);
    agent.until("it is looked after", |status| {
        status["config_error"].is_null() && streams(status, "db2") && backed_up(status, "db2")
    });

    step("and the first one removed");
    configure(&site, "", &[("db2", &two)]);
    agent.process.signal(Signal::HUP);
    agent.until("it is gone", |status| {
        status["deployments"].as_object().unwrap().len() == 1
    });
    assert_eq!(streams_now().len(), 1, "{:?}", streams_now());
    assert!(agent.status().is_some_and(|status| streams(&status, "db2")));
    agent.process.stop().ok();
}

/// Two deployments in two repositories: each task finds its own. Neither is streamed.
#[test]
fn each_deployment_is_checked_and_verified_in_its_own_repository() {
    let server = Cluster::builder(18).start();
    let site = Site::new();
    let other = format!("file://{}", site.dir("other").display());
    site.product.run(&["repo", "init", &other]).ok();
    let connection = server.connection();
    let text = format!(
        "schedule: {{backup: '@nightly', check: '* * * * *', verify: '* * * * *'}}\ndeployments:\n  \
         db1: {{pg_connection: '{connection}', repo: '{}', stream: false}}\n  \
         db2: {{pg_connection: '{connection}', repo: '{other}', stream: false}}\n",
        site.repo
    );
    fs::write(configuration(&site), text).unwrap();
    let mut agent = Agent::start(&site, "agent");
    let status = agent.until_within("both are checked and verified", A_WINDOW, |status| {
        let all = [("db1", "check"), ("db1", "verify"), ("db2", "check"), ("db2", "verify")];
        all.iter().all(|(name, task)| {
            let task = &status["deployments"][name]["tasks"][task];
            // The first window may come before the first backup, and finds nothing then.
            task["last"]["outcome"] == "succeeded"
        })
    });
    assert!(status["deployments"]["db2"]["stream"].is_null(), "{status:#}");
    assert_eq!(server.value("SELECT count(*) FROM pg_replication_slots"), "0");
    agent.process.stop().ok();
    assert_eq!(
        site.product
            .run(&["list", "db2", "--repo", &other, "-o", "json"])
            .ok()
            .result()["count"],
        1
    );
    site.product.run(&["repo", "check", "--deployment", "db2"]).ok();
}

#[test]
fn a_preview_starts_nothing_and_bad_words_are_refused() {
    let server = Cluster::builder(18).start();
    let site = Site::new();
    configure(
        &site,
        "schedule: {backup: '0 3 * * *', check: '@weekly', verify: off}",
        &[("db1", &server)],
    );
    let shown = site.product.run(&["agent", "--dry-run"]).ok();
    let line = |task: &str| {
        let found = shown
            .stdout
            .lines()
            .find(|line| line.split_whitespace().nth(1) == Some(task));
        found.unwrap_or_else(|| panic!("{shown}")).to_owned()
    };
    assert!(
        line("backup").contains("0 3 * * *") && line("backup").contains(" now "),
        "no backup yet\n{shown}"
    );
    assert!(
        line("stream").contains("always") && line("rotate").contains("after the next backup"),
        "{shown}"
    );
    assert!(
        line("verify").contains(" off ") && line("check").contains("@weekly (0 0 * * 0)"),
        "{shown}"
    );
    assert!(
        !site.product.home().join(".local/share/pg_hardstorage").exists(),
        "it has written something"
    );
    site.backup(&server);
    let shown = site.product.run(&["agent", "--dry-run", "-o", "json"]).ok().result();
    let db1 = &shown["deployments"]["db1"];
    assert!(db1["newest_backup_at"].is_string(), "{shown:#}");
    assert!(
        db1["tasks"]["backup"]["next_at"]
            .as_str()
            .unwrap()
            .ends_with("T03:00:00Z"),
        "{shown:#}"
    );

    let connection = server.connection();
    let entry = format!("pg_connection: '{connection}', repo: '{}'", site.repo);
    for (text, wanted) in [
        ("schedule: {backup: hourly}", "no deployment"),
        (
            &format!("deployments: {{db1: {{{entry}, schedule: {{backup: hourly}}}}}}"),
            "hourly",
        ),
        (
            &format!("deployments: {{db1: {{{entry}, schedule: {{backups: '@daily'}}}}}}"),
            "backups",
        ),
        (
            &format!("timezone: Mars/Olympus\ndeployments: {{db1: {{{entry}}}}}"),
            "Mars/Olympus",
        ),
        (
            &format!("agent: {{max_concurrent: 0}}\ndeployments: {{db1: {{{entry}}}}}"),
            "zero",
        ),
        (
            &format!("deployments: {{db1: {{repo: '{}'}}}}", site.repo),
            "pg_connection is missing",
        ),
    ] {
        fs::write(configuration(&site), text).unwrap();
        for more in [&["agent"][..], &["agent", "--dry-run"]] {
            let refused = site.product.run(more).exits(2);
            assert!(
                refused.stderr.contains("ERROR usage.") && refused.stderr.contains("hint: "),
                "{text}\n{refused}"
            );
            assert!(refused.stderr.contains(wanted), "{text}\n{refused}");
        }
    }
}
