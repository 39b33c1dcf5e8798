//! Answers for every engine pod. Which one is asked is told by the address of the loopback that was connected to.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// Where the operator asks.
const PORT: u16 = 9187;
/// The repository's id.
pub const REPOSITORY: &str = "000102030405060708090a0b0c0d0e0f";

/// How all streams are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Nothing happens on the servers.
    Idle,
    /// WAL flows all the time.
    Busy,
    /// No server can be reached.
    Broken,
}

/// What one pod says.
#[derive(Debug, Clone)]
pub enum Role {
    /// A stream: the UID of its Deployment, and its name in the repository.
    Stream(String, String),
    /// A run: its Job's UID, and its result.
    Run(String, Value),
}

#[derive(Debug)]
struct State {
    backups: usize,
    mood: Mood,
    pods: HashMap<IpAddr, Role>,
    heard: Vec<String>,
}

/// The process that answers.
#[derive(Debug, Clone)]
pub struct StandIn(Arc<Mutex<State>>);

/// The address of the n-th pod.
pub fn address(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 77, (n / 250) as u8, (n % 250 + 1) as u8)
}

impl StandIn {
    /// Begins to answer.
    pub fn start(backups: usize) -> StandIn {
        let state = StandIn(Arc::new(Mutex::new(State {
            backups,
            mood: Mood::Idle,
            pods: HashMap::new(),
            heard: Vec::new(),
        })));
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap();
        let answering = state.clone();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let state = answering.clone();
                thread::spawn(move || state.serve(&socket));
            }
        });
        state
    }

    /// Puts a pod at an address.
    pub fn put(&self, at: Ipv4Addr, role: Role) {
        self.0.lock().unwrap().pods.insert(at.into(), role);
    }

    /// All streams are like this from now on.
    pub fn feel(&self, mood: Mood) {
        self.0.lock().unwrap().mood = mood;
    }

    /// Whether a run's result was stored.
    pub fn was_heard(&self, run: &str) -> bool {
        self.0.lock().unwrap().heard.iter().any(|heard| heard == run)
    }

    /// A connection, kept open as the engine's server does.
    fn serve(&self, socket: &TcpStream) {
        let Ok(local) = socket.local_addr() else { return };
        let mut lines = BufReader::new(socket).lines();
        while let Some(Ok(request)) = lines.next() {
            for header in lines.by_ref() {
                // The head ends with an empty line; nothing asks with a body.
                if header.is_ok_and(|header| header.is_empty()) {
                    break;
                }
            }
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let body = self.answer(local.ip(), &path);
            let status = if body.is_null() { "404 Not Found" } else { "200 OK" };
            let body = body.to_string();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let mut socket = socket;
            if socket.write_all((head + &body).as_bytes()).is_err() {
                return;
            }
        }
    }

    fn answer(&self, ip: IpAddr, path: &str) -> Value {
        let mut state = self.0.lock().unwrap();
        if let Some(run) = path.strip_prefix("/v1/heard?run=") {
            state.heard.push(run.to_owned());
            return json!({});
        }
        let Some(role) = state.pods.get(&ip) else {
            return Value::Null;
        };
        match role {
            Role::Run(uid, result) if path == "/v1/report" => json!({"schema": "pg_hardstorage.report.v1",
                "command": "run", "run_id": uid, "version": "0.1.0", "state": "succeeded", "result": result}),
            // The Repository has nothing that no Deployment shows.
            Role::Run(..) => json!({"schema": "pg_hardstorage.catalog.v1", "etag": "none", "repository_id": REPOSITORY,
                "total": 0, "backups": []}),
            Role::Stream(uid, name) if path == "/v1/report" => stream(uid, name, state.mood, state.backups),
            Role::Stream(_, name) => catalog(name, state.backups),
        }
    }
}

fn stream(uid: &str, name: &str, mood: Mood, backups: usize) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let lsn = match mood {
        Mood::Idle | Mood::Broken => "0/5000000".to_owned(),
        Mood::Busy => format!("0/{:X}", 0x500_0000 + (now % 0x1000_0000)),
    };
    let until = match mood {
        Mood::Busy => moment(now),
        Mood::Idle | Mood::Broken => "2026-01-01T00:00:00Z".to_owned(),
    };
    let broken = json!({"code": "network.refused", "message": "the server does not answer", "hint": "start it",
        "exit_code": 8});
    json!({"schema": "pg_hardstorage.report.v1", "command": "wal stream", "run_id": uid, "version": "0.1.0",
        "state": "running", "catalog": {"etag": "one", "backups": backups},
        "stream": {"deployment": name, "phase": if mood == Mood::Broken { "reconnecting" } else { "streaming" },
            "system_id": "7300000000000000001", "timeline": 1, "slot": "hs", "slot_health": "active",
            "received_lsn": lsn, "durable_lsn": lsn, "server_lsn": lsn, "lag_bytes": 0, "lag_seconds": 0.0,
            "recoverable_from": "2025-12-01T00:00:00.140396Z", "recoverable_to": until, "segments": 1, "bytes_received": 1,
            "connections": 1, "gaps": 0, "last_error": (mood == Mood::Broken).then_some(broken),
            "started_at": "2025-12-01T00:00:00Z", "heard_at": moment(now)}})
}

fn catalog(name: &str, backups: usize) -> Value {
    let of = |n: usize| {
        let day = n % 28 + 1;
        json!({"backup_id": format!("{name}.full.202512{day:02}T000000Z.{n:04x}"), "type": "full", "pg_version": "18.1",
            "system_identifier": "7300000000000000001", "started_at": format!("2025-12-{day:02}T00:00:00Z"),
            "stopped_at": format!("2025-12-{day:02}T00:01:00.123456Z"), "duration_ms": 60_000, "start_lsn": "0/2000000",
            "stop_lsn": "0/2000100", "timeline": 1, "file_count": 1000, "logical_bytes": 1_000_000_000u64,
            "stored_bytes": 10_000_000, "reuse": 0.9, "source_snapshot": true, "held": false, "deleted": false,
            "damaged": false})
    };
    let all: Vec<Value> = (0..backups).rev().map(of).collect();
    json!({"schema": "pg_hardstorage.catalog.v1", "etag": "one", "repository_id": REPOSITORY, "total": backups,
        "backups": all})
}

/// Seconds since 1970 as RFC 3339.
fn moment(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's civil_from_days, for days since 1970.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) = (
        day_of_year - (153 * shifted + 2) / 5 + 1,
        if shifted < 10 { shifted + 3 } else { shifted - 9 },
    );
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}
