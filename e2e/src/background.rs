//! A program that runs beside the test: a stream, a server. Its output goes to files, so that it never waits for us,
//! and it does not outlive the value.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::answer::{Answer, command_line, until};

/// The running program.
#[derive(Debug)]
pub struct Background {
    command: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Background {
    /// Starts it; what it says is appended to `<log>.out` and `<log>.err`.
    pub fn start(mut command: Command, log: &Path) -> Background {
        let line = command_line(&command);
        let (stdout, stderr) = (log.with_extension("out"), log.with_extension("err"));
        let open = |path: &Path| File::options().create(true).append(true).open(path).unwrap();
        command.stdin(Stdio::null()).stdout(open(&stdout)).stderr(open(&stderr));
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {line}: {error}"));
        Background {
            command: line,
            child,
            stdout,
            stderr,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.status().is_none()
    }

    fn status(&mut self) -> Option<ExitStatus> {
        self.child
            .try_wait()
            .unwrap_or_else(|error| panic!("wait for {}: {error}", self.command))
    }

    /// What it said so far; `code` is set once it ended.
    pub fn answer(&mut self) -> Answer {
        let code = self.status().and_then(|status| status.code());
        let read =
            |path: &Path| fs::read(path).map_or_else(|_| String::new(), |b| String::from_utf8_lossy(&b).into_owned());
        Answer {
            command: self.command.clone(),
            code,
            stdout: read(&self.stdout),
            stderr: read(&self.stderr),
        }
    }

    /// Waits until `ask` has an answer; fails the test when the program ends before, or after the deadline.
    #[track_caller]
    pub fn until<T>(&mut self, what: &str, deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
        let begun = std::time::Instant::now();
        until(what, deadline + Duration::from_secs(1), || {
            let answer = ask();
            if answer.is_none() {
                assert!(self.runs(), "ended while waiting for: {what}\n{}", self.answer());
                assert!(
                    begun.elapsed() < deadline,
                    "not within {deadline:?}: {what}\n{}",
                    self.answer()
                );
            }
            answer
        })
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        if self.runs() {
            // Only a process that ended in this instant is not there.
            kill_process(Pid::from_child(&self.child), signal).ok();
        }
    }

    /// Waits for its end; after the deadline it is killed and the test fails.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> Answer {
        let begun = std::time::Instant::now();
        while self.runs() {
            if begun.elapsed() > deadline {
                self.signal(Signal::KILL);
                panic!("did not end within {deadline:?}\n{}", self.answer());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.answer()
    }

    /// Asks it to end (SIGTERM) and waits a minute for it.
    #[track_caller]
    pub fn stop(&mut self) -> Answer {
        self.signal(Signal::TERM);
        self.wait(Duration::from_mins(1))
    }

    /// Ends it as a power cut would (SIGKILL).
    pub fn kill(&mut self) -> Answer {
        self.signal(Signal::KILL);
        self.wait(Duration::from_mins(1))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // A destructor must not panic while a test fails: what cannot be killed is gone already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
