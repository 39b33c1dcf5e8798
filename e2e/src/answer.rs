//! A program that was run to its end: what it was, what it said, how it ended. Everything here has a deadline, because
//! a test that hangs tells nothing.

use std::fmt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The end of one program.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The command line, for messages.
    pub command: String,
    /// The exit code, or nothing when a signal ended it.
    pub code: Option<i32>,
    /// Everything it wrote to stdout.
    pub stdout: String,
    /// Everything it wrote to stderr.
    pub stderr: String,
}

impl Answer {
    /// Fails the test unless the program ended with 0.
    #[track_caller]
    pub fn ok(self) -> Answer {
        self.exits(0)
    }

    /// Fails the test unless the program ended with this code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Answer {
        assert!(self.code == Some(code), "expected exit code {code}\n{self}");
        self
    }

    /// Stdout as one JSON document; fails the test when it is anything else.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not one JSON document: {error}\n{self}"))
    }

    /// The `result` of the product's JSON document.
    #[track_caller]
    pub fn result(&self) -> Value {
        let document = self.json();
        document
            .get("result")
            .cloned()
            .unwrap_or_else(|| panic!("no result in the document\n{self}"))
    }

    /// Stdout without the newline at its end.
    pub fn text(&self) -> &str {
        self.stdout.trim_end()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
        writeln!(f, "$ {}\nended with {code}", self.command)?;
        writeln!(f, "--- stdout\n{}", self.stdout.trim_end())?;
        write!(f, "--- stderr\n{}", self.stderr.trim_end())
    }
}

/// Runs a program to its end, with nothing on stdin; after the deadline it is killed and the test fails.
#[track_caller]
pub fn run(mut command: Command, deadline: Duration) -> Answer {
    let line = command_line(&command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {line}: {error}"));
    let pid = Pid::from_child(&child);
    let (sender, receiver) = mpsc::channel();
    // Both pipes are read while it runs: a full pipe would stop it.
    thread::spawn(move || sender.send(child.wait_with_output()));
    let (output, late) = if let Ok(output) = receiver.recv_timeout(deadline) {
        (output, false)
    } else {
        // It may have ended in this instant, which is the only way this can fail.
        kill_process(pid, Signal::KILL).ok();
        (receiver.recv().unwrap(), true)
    };
    let output = output.unwrap_or_else(|error| panic!("cannot wait for {line}: {error}"));
    let answer = Answer {
        command: line,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert!(!late, "did not end within {deadline:?}\n{answer}");
    answer
}

/// Asks again and again until there is an answer; fails the test with `what` after the deadline.
#[track_caller]
pub fn until<T>(what: &str, deadline: Duration, ask: impl FnMut() -> Option<T>) -> T {
    until_every(Duration::from_millis(20), what, deadline, ask)
}

/// The same with so long a pause between two questions.
#[track_caller]
pub(crate) fn until_every<T>(pause: Duration, what: &str, deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < deadline, "not within {deadline:?}: {what}");
        thread::sleep(pause);
    }
}

/// The command as a person would type it, without the words that only change the user.
pub fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy());
    let skip = if command.get_program() == "setpriv" {
        crate::scratch::SETPRIV.len()
    } else {
        0
    };
    words.skip(skip).collect::<Vec<_>>().join(" ")
}
