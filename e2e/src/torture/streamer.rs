//! The stream as a service manager runs it: started again whenever it ends, and asked all the time what it has promised.
//!
//! A promise is a `durable_lsn` that `/status` has reported: everything up to there survives whatever comes.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::chronicle::Chronicle;
use super::complaints::Complaints;
use super::ledger::held;
use crate::answer::{Answer, until};
use crate::background::Background;
use crate::http::get;
use crate::place::free_loopback;
use crate::postgres::lsn;
use crate::product::Hardstorage;

/// The name of what is protected.
pub const DEPLOYMENT: &str = "db1";
const REPORT_PORT: u16 = 9187;
/// It is looked at so often.
const LOOK: Duration = Duration::from_millis(40);

/// The service.
#[derive(Debug)]
pub struct Streamer {
    shared: Arc<Shared>,
    supervisor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    product: Arc<Hardstorage>,
    chronicle: Arc<Chronicle>,
    args: Vec<String>,
    report: SocketAddrV4,
    now: Mutex<Now>,
    ends: AtomicBool,
}

#[derive(Debug)]
struct Now {
    process: Background,
    starts: u32,
    /// Whether a kill is ours.
    killed: bool,
    /// By timeline, the farthest position that was ever reported.
    promised: BTreeMap<u32, u64>,
    last: Option<Value>,
    complaints: Complaints,
}

impl Streamer {
    /// Starts it with more arguments than those that every stream has.
    pub fn start(product: &Arc<Hardstorage>, chronicle: &Arc<Chronicle>, args: &[&str]) -> Streamer {
        let report = SocketAddrV4::new(free_loopback(REPORT_PORT), REPORT_PORT);
        let listen = report.to_string();
        let own = ["wal", "stream", DEPLOYMENT, "-o", "json", "--report-listen", &listen];
        let args: Vec<String> = own.iter().chain(args).map(ToString::to_string).collect();
        let now = Now {
            process: start(product, &args, 1),
            starts: 1,
            killed: false,
            promised: BTreeMap::new(),
            last: None,
            complaints: Complaints::default(),
        };
        let shared = Arc::new(Shared {
            product: product.clone(),
            chronicle: chronicle.clone(),
            args,
            report,
            now: Mutex::new(now),
            ends: AtomicBool::new(false),
        });
        let watched = shared.clone();
        let supervisor = thread::spawn(move || {
            while !watched.ends.load(Ordering::Acquire) {
                watched.look();
                thread::sleep(LOOK);
            }
        });
        Streamer {
            shared,
            supervisor: Some(supervisor),
        }
    }

    /// Kills it; it is started again.
    pub fn kill(&self) {
        let mut now = held(&self.shared.now);
        now.killed = true;
        now.process.kill();
    }

    /// Stops it for a time, as a machine that has no time for it does.
    pub fn pause(&self, time: Duration) {
        held(&self.shared.now).process.signal(Signal::STOP);
        thread::sleep(time);
        held(&self.shared.now).process.signal(Signal::CONT);
    }

    /// What `/status` said last.
    pub fn status(&self) -> Value {
        held(&self.shared.now).last.clone().unwrap_or_default()
    }

    /// Waits until everything up to here is durable.
    #[track_caller]
    pub fn until_durable(&self, timeline: u32, wanted: u64) {
        let what = format!("{wanted:X} of timeline {timeline} is durable");
        let begun = std::time::Instant::now();
        until(&what, Duration::from_mins(4), || {
            let there = held(&self.shared.now)
                .promised
                .get(&timeline)
                .is_some_and(|at| *at >= wanted);
            assert!(
                there || begun.elapsed() < Duration::from_mins(3),
                "not in 3 minutes: {what}: {}\n{}",
                self.status(),
                held(&self.shared.now).process.answer()
            );
            there.then_some(())
        });
    }

    /// Asks it to end, as a service manager does, and nobody starts it again.
    pub fn stop(mut self) -> (Answer, Told) {
        self.end();
        let mut now = held(&self.shared.now);
        let answer = now.process.stop();
        let told = now.told(&answer, false);
        drop(now);
        (answer, told)
    }

    /// Kills it, and nobody starts it again.
    pub fn cut(mut self) -> Told {
        self.end();
        let mut now = held(&self.shared.now);
        let answer = now.process.kill();
        let told = now.told(&answer, true);
        drop(now);
        told
    }

    fn end(&mut self) {
        self.shared.ends.store(true, Ordering::Release);
        if let Some(supervisor) = self.supervisor.take() {
            supervisor.join().unwrap_or_else(|_| panic!("the supervisor failed"));
        }
    }
}

impl Drop for Streamer {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Release);
    }
}

/// What a stream has said in its life.
#[derive(Debug)]
pub struct Told {
    /// By timeline, the farthest position that it called durable.
    pub promised: BTreeMap<u32, u64>,
    /// How often it was started.
    pub starts: u32,
    /// What it complained about.
    pub complaints: Complaints,
}

impl Now {
    fn told(&mut self, answer: &Answer, killed: bool) -> Told {
        self.complaints.read(answer, killed);
        Told {
            promised: self.promised.clone(),
            starts: self.starts,
            complaints: std::mem::take(&mut self.complaints),
        }
    }
}

impl Shared {
    fn look(&self) {
        // Not under the lock: a stream that is stopped does not answer.
        if let Ok((200, body)) = get(self.report, "/status") {
            let status: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
            let mut now = held(&self.now);
            if let (Some(timeline), Some(durable)) = (status["timeline"].as_u64(), status["durable_lsn"].as_str()) {
                let promised = now.promised.entry(timeline as u32).or_default();
                *promised = (*promised).max(lsn(durable));
            }
            now.last = Some(status);
        }
        let mut now = held(&self.now);
        if self.ends.load(Ordering::Acquire) || now.process.runs() {
            return;
        }
        let answer = now.process.answer();
        let killed = std::mem::take(&mut now.killed);
        now.complaints.read(&answer, killed);
        if !killed {
            let code = answer.code;
            self.chronicle.note(&format!(
                "the stream has ended by itself with {code:?}: {}",
                last_line(&answer)
            ));
        }
        now.starts += 1;
        let number = now.starts;
        now.process = start(&self.product, &self.args, number);
    }
}

fn last_line(answer: &Answer) -> &str {
    answer.stderr.lines().last().unwrap_or_default()
}

fn start(product: &Hardstorage, args: &[String], number: u32) -> Background {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    product.start(&format!("stream-{number}"), &args)
}
