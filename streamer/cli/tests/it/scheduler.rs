//! What a scheduler relies on: the report that a run serves, the word that it was heard, the termination message, and
//! keys that come as single files. `repo probe` is the run: it needs no key and no server.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::product;

const PATIENCE: Duration = Duration::from_mins(1);

/// A run that serves its report.
struct Run {
    child: Child,
    address: String,
}

impl Run {
    /// Starts it and waits until it says where it listens.
    fn start(mut command: Command, linger: &str) -> Run {
        command.args(["--report-listen", "127.0.0.1:0", "--report-linger", linger]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended before it listened");
            if let Some((_, rest)) = line.split_once("report.listening address=") {
                break rest.trim().to_owned();
            }
        };
        // Its later words are not waited for; the pipe must not fill up all the same.
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        Run { child, address }
    }

    /// Sends a request; status and body.
    fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// The report, as soon as the run is over.
    fn report(&self) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, body) = self.ask("GET", "/v1/report");
            assert_eq!(status, 200);
            let report: Value = serde_json::from_str(&body).unwrap();
            if report["state"] != "running" {
                return report;
            }
            assert!(Instant::now() < deadline, "{report}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end; exit code and what went to stdout.
    fn end(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_over() {
            if Instant::now() >= deadline {
                self.child.kill().unwrap();
                panic!("it does not end");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut stdout = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        (self.child.wait().unwrap().code(), stdout)
    }
}

fn probe(root: &Path, url: &str, more: &[&str]) -> Command {
    let mut command = product(&root.join("home"));
    command.args(["repo", "probe", url, "--run-id", "run-1"]).args(more);
    command
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.len() <= 3 << 10, "{}", text.len());
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_result_is_served_until_it_was_heard() {
    let root = tempfile::tempdir().unwrap();
    let url = format!("file://{}", root.path().display());
    let message = root.path().join("message");
    let more = ["--termination-file", message.to_str().unwrap()];
    let mut run = Run::start(probe(root.path(), &url, &more), "1h");
    let report = run.report();
    assert_eq!(report["schema"], "pg_hardstorage.report.v1");
    assert_eq!(
        (&report["command"], &report["run_id"]),
        (&"repo probe".into(), &"run-1".into())
    );
    assert_eq!(report["state"], "succeeded");
    assert_eq!(report["result"]["url"], url.as_str());
    assert_eq!(run.ask("GET", "/healthz"), (200, "ok\n".to_owned()));
    assert!(run.ask("GET", "/metrics").1.contains("command=\"repo probe\""));

    assert_eq!(run.ask("POST", "/v1/heard?run=run-2").0, 404, "another run");
    assert_eq!(run.ask("POST", "/v1/heard").0, 404, "no run");
    assert_eq!(run.ask("GET", "/v1/heard?run=run-1").0, 405, "a look is no word");
    assert!(!run.is_over(), "nobody has heard it yet");
    assert_eq!(run.ask("POST", "/v1/heard?run=run-1").0, 204);
    let (code, stdout) = run.end();
    assert_eq!(code, Some(0));
    assert!(stdout.contains("absent"), "{stdout}");
    assert_eq!(read(&message), report, "the termination message is the report");
}

#[test]
fn a_result_that_nobody_hears_is_served_for_a_while_only() {
    let root = tempfile::tempdir().unwrap();
    let url = format!("file://{}", root.path().display());
    let began = Instant::now();
    let (code, _) = Run::start(probe(root.path(), &url, &[]), "1500ms").end();
    assert_eq!(code, Some(0));
    assert!(began.elapsed() >= Duration::from_millis(1500), "{:?}", began.elapsed());
}

#[test]
fn a_failure_is_reported_with_its_code() {
    let root = tempfile::tempdir().unwrap();
    let message = root.path().join("message");
    let more = ["--termination-file", message.to_str().unwrap()];
    let run = Run::start(probe(root.path(), "file:///no/such/place", &more), "1h");
    let report = run.report();
    assert_eq!((&report["state"], &report["result"]), (&"failed".into(), &Value::Null));
    let code = report["error"]["code"].as_str().unwrap().to_owned();
    assert!(code.starts_with("notfound."), "{report}");
    assert_eq!(run.ask("POST", "/v1/heard?run=run-1").0, 204);
    assert_eq!(run.end().0, Some(6));
    assert_eq!(read(&message)["error"]["code"], code.as_str());
}

#[test]
fn a_termination_message_is_small_and_its_failure_no_second_result() {
    let root = tempfile::tempdir().unwrap();
    // A foreign place whose names alone are longer than the message may be.
    for number in 0..40 {
        let name = format!("{number:02}{}", "x".repeat(200));
        fs::write(root.path().join(name), b"").unwrap();
    }
    let url = format!("file://{}", root.path().display());
    let message = root.path().join("message");
    let more = ["--termination-file", message.to_str().unwrap()];
    let output = probe(root.path(), &url, &more).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(read(&message)["run_id"], "run-1");

    let nowhere = root.path().join("no/such/message");
    let more = ["-o", "json", "--termination-file", nowhere.to_str().unwrap()];
    let output = probe(root.path(), &url, &more).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["result"]["state"], "foreign");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("report.termination_file_failed"), "{stderr}");
}

#[test]
fn an_address_in_use_and_a_lingering_without_one_are_errors() {
    let root = tempfile::tempdir().unwrap();
    let url = format!("file://{}", root.path().display());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = probe(root.path(), &url, &["--report-listen", &address])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(&address), "{output:?}");
    let output = probe(root.path(), &url, &["--report-linger", "5s"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn keys_come_from_a_directory_of_credentials() {
    let root = tempfile::tempdir().unwrap();
    let place = |name: &str| root.path().join(name);
    let url = format!("file://{}", place("repository").display());
    let made = product(&place("home")).args(["repo", "init", &url]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let kek = fs::read(place("home/.config/pg_hardstorage/keyring/kek.bin")).unwrap();
    let stranger = place("stranger");
    let check = |more: &[&str]| {
        let mut command = product(&stranger);
        command.args(["-o", "json", "repo", "check", &url]).args(more);
        let output = command.output().unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), document)
    };
    let credentials = place("credentials");
    fs::create_dir(&credentials).unwrap();
    let given = ["--credentials-dir", credentials.to_str().unwrap()];
    assert_eq!(check(&given).1["error"]["code"], "auth.key_missing");
    private(&credentials.join("kek"), &kek);
    assert_eq!(check(&[]).1["error"]["code"], "auth.key_missing");
    let (code, document) = check(&given);
    assert_eq!((code, &document["result"]["ok"]), (Some(0), &true.into()), "{document}");

    // Whoever mounts them keeps them: an export of this user's own keyring would be another key.
    let export = |verb: &str| {
        let mut command = product(&place("home"));
        let copy = place("copy");
        command
            .args(["-o", "json", "keyring", verb, copy.to_str().unwrap()])
            .args(given);
        let output = command.output().unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(!copy.exists());
        document["error"]["code"].clone()
    };
    assert_eq!(export("export"), "usage.invalid");
    assert_eq!(export("import"), "usage.invalid");
    let shown = product(&stranger)
        .args(["keyring", "show"])
        .args(given)
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains(credentials.to_str().unwrap()), "{shown}");
}

/// A scheduler decides by this whether a key may be made: never for a repository that exists.
#[test]
fn a_repository_is_made_with_the_key_that_is_mounted_and_with_no_other() {
    let root = tempfile::tempdir().unwrap();
    let place = |name: &str| root.path().join(name);
    let url = format!("file://{}", place("repository").display());
    let credentials = place("credentials");
    fs::create_dir(&credentials).unwrap();
    let ask = |words: &[&str]| {
        let mut command = product(&place("home"));
        command.args(["-o", "json", "--credentials-dir", credentials.to_str().unwrap()]);
        let output = command.args(words).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!(ask(&["repo", "init", &url])["error"]["code"], "auth.key_missing");
    assert!(
        !place("home/.config/pg_hardstorage/keyring").exists(),
        "no key was made elsewhere"
    );
    private(&credentials.join("kek"), &[7; 32]);
    let made = ask(&["repo", "init", &url, "--run-id", "run-1"]);
    assert_eq!(made["result"]["kek_generated"], false, "{made}");
    let probed = ask(&["repo", "probe", &url]);
    assert_eq!(
        probed["result"]["own_key"], probed["result"]["kek_fingerprint"],
        "{probed}"
    );
    fs::remove_file(credentials.join("kek")).unwrap();
    assert_eq!(ask(&["repo", "probe", &url])["result"]["own_key"], Value::Null);
    private(&credentials.join("kek"), b"short");
    let broken = ask(&["repo", "probe", &url]);
    assert_eq!(broken["result"]["state"], "present", "{broken}");
    assert!(broken["result"]["own_key_problem"].is_string(), "{broken}");
}

/// The trial of writes leaves nothing behind, is made only where a repository is, and never makes a look fail.
#[test]
fn writes_are_tried_only_when_asked_for_and_only_in_a_repository() {
    let root = tempfile::tempdir().unwrap();
    let place = root.path().join("repository");
    fs::create_dir(&place).unwrap();
    let url = format!("file://{}", place.display());
    let looks = |more: &[&str]| {
        let output = probe(root.path(), &url, &[&["-o", "json"], more].concat())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        document["result"].clone()
    };
    let names = || {
        let entries = fs::read_dir(&place).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let absent = looks(&["--prove-writes"]);
    assert_eq!(
        (&absent["state"], &absent["create_only_proven"]),
        (&"absent".into(), &Value::Null)
    );
    assert!(names().is_empty());
    fs::write(place.join("somebody's"), b"x").unwrap();
    assert_eq!(looks(&["--prove-writes"])["create_only_proven"], Value::Null);
    assert_eq!(names(), ["somebody's"]);
    fs::remove_file(place.join("somebody's")).unwrap();

    let made = product(&root.path().join("home"))
        .args(["repo", "init", &url, "--no-encryption"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let before = names();
    assert_eq!(looks(&[])["create_only_proven"], Value::Null);
    let tried = looks(&["--prove-writes"]);
    assert_eq!(tried["create_only_proven"], true, "{tried}");
    let empty =
        |name: &std::ffi::OsString| fs::read_dir(place.join(name)).is_ok_and(|mut found| found.next().is_none());
    let after: Vec<_> = names()
        .into_iter()
        .filter(|name| before.contains(name) || !empty(name))
        .collect();
    assert_eq!(after, before, "nothing is left behind");
}

#[test]
fn a_catalogue_is_served_in_pages() {
    let root = tempfile::tempdir().unwrap();
    let url = format!("file://{}", root.path().join("repository").display());
    let home = root.path().join("home");
    let made = product(&home).args(["repo", "init", &url]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let mut sync = product(&home);
    sync.args(["repo", "sync", &url, "--run-id", "run-1"]);
    let run = Run::start(sync, "1h");
    let report = run.report();
    assert_eq!(report["state"], "succeeded", "{report}");
    assert_eq!(report["catalog"]["backups"], 0, "{report}");
    let (status, page) = run.ask("GET", "/v1/catalog?offset=0&limit=10");
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!((status, &page["etag"]), (200, &report["catalog"]["etag"]));
    assert_eq!((&page["total"], &page["next"]), (&0.into(), &Value::Null));
    assert_eq!(run.ask("GET", "/v1/catalog?limit=x").0, 400);
    assert_eq!(run.ask("POST", "/v1/heard?run=run-1").0, 204);
    assert_eq!(run.end().0, Some(0));
    // What reads no catalogue has none to show.
    let probe = Run::start(probe(root.path(), &url, &[]), "1h");
    probe.report();
    assert_eq!(probe.ask("GET", "/v1/catalog").0, 404);
    assert_eq!(probe.ask("POST", "/v1/heard?run=run-1").0, 204);
    probe.end();
}

fn private(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(bytes).unwrap();
}
