//! Which process a session belongs to, and whether that process is proven to be dead. Only ever a shortcut: a wrong
//! answer costs a wait or an aborted backup, never data, because the commit is decided by create-only.

use std::fs;
use std::io::ErrorKind;

use serde::{Deserialize, Serialize};

/// A process, named so that no other on any machine can be taken for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFacts {
    /// The host's name.
    pub host: String,
    /// The machine's id; containers often have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// The kernel's id of this boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// In which pid namespace the number holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_namespace: Option<String>,
    /// The process id.
    pub pid: u32,
    /// The process's start in clock ticks since boot, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
}

/// What a look at a process id shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// No such process.
    Gone,
    /// A process that started then.
    Running(Option<String>),
    /// It cannot be told.
    Unknown,
}

impl ProcessFacts {
    /// This process.
    pub fn current() -> ProcessFacts {
        let pid = std::process::id();
        ProcessFacts {
            host: line("/proc/sys/kernel/hostname").unwrap_or_else(|| "unknown".to_owned()),
            machine_id: line("/etc/machine-id"),
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            pid_namespace: fs::read_link("/proc/self/ns/pid")
                .ok()
                .map(|link| link.to_string_lossy().into_owned()),
            pid,
            started: match look(pid) {
                Seen::Running(started) => started,
                _ => None,
            },
        }
    }

    /// Whether this process is proven dead by one that runs `here` and can look at process ids. Proof needs the same
    /// machine: a name alone is not one, since clones and pods share names.
    pub fn is_dead(&self, here: &ProcessFacts, look: impl FnOnce(u32) -> Seen) -> bool {
        let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
        if self.host != here.host {
            return false;
        }
        match (&self.boot_id, &here.boot_id) {
            (Some(theirs), Some(ours)) if theirs != ours => return same(&self.machine_id, &here.machine_id),
            (Some(_), Some(_)) => {}
            _ => return false,
        }
        if !same(&self.pid_namespace, &here.pid_namespace) {
            return false;
        }
        match look(self.pid) {
            Seen::Gone => true,
            Seen::Running(Some(started)) => self.started.as_ref().is_some_and(|ours| *ours != started),
            Seen::Running(None) | Seen::Unknown => false,
        }
    }
}

fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// Looks at a process id of this machine.
pub fn look(pid: u32) -> Seen {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => Seen::Running(start_of(&stat)),
        Err(error) if error.kind() == ErrorKind::NotFound && fs::exists("/proc/self/stat").unwrap_or(false) => {
            // With `hidepid`, others' processes look as if they were not there; a signal's permission check tells.
            let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else {
                return Seen::Unknown;
            };
            match rustix::process::test_kill_process(pid) {
                Err(rustix::io::Errno::SRCH) => Seen::Gone,
                _ => Seen::Unknown,
            }
        }
        Err(_) => Seen::Unknown,
    }
}

// Field 22 of `/proc/<pid>/stat`; the second field may hold spaces and parentheses.
fn start_of(stat: &str) -> Option<String> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn process() -> ProcessFacts {
        let some = |text: &str| Some(text.to_owned());
        ProcessFacts {
            host: "a".into(),
            machine_id: some("m"),
            boot_id: some("b"),
            pid_namespace: some("n"),
            pid: 7,
            started: some("100"),
        }
    }

    #[test]
    fn this_process_lives() {
        let own = ProcessFacts::current();
        assert!(own.boot_id.is_some() && own.started.is_some() && own.pid_namespace.is_some());
        assert!(!own.is_dead(&own, look));
        let earlier = ProcessFacts {
            started: Some("1".into()),
            ..own.clone()
        };
        assert!(earlier.is_dead(&own, look), "the id was given to another process since");
    }

    #[test]
    fn an_ended_process_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let own = ProcessFacts::current();
        let pid = child.id();
        let Seen::Running(started) = look(pid) else {
            panic!("the child runs")
        };
        let there = ProcessFacts {
            pid,
            started,
            ..own.clone()
        };
        assert!(!there.is_dead(&own, look));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(there.is_dead(&own, look));
    }

    #[test]
    fn what_proves_a_death() {
        let own = process();
        let gone = |_| Seen::Gone;
        let never = |_: u32| -> Seen { panic!("must not be asked") };
        assert!(own.is_dead(&own, gone));
        assert!(own.is_dead(&own, |_| Seen::Running(Some("200".into()))));
        assert!(!own.is_dead(&own, |_| Seen::Running(Some("100".into()))));
        assert!(!own.is_dead(&own, |_| Seen::Unknown));
        let with = |change: &dyn Fn(&mut ProcessFacts)| {
            let mut other = process();
            change(&mut other);
            other
        };
        assert!(
            with(&|p| p.boot_id = Some("c".into())).is_dead(&own, never),
            "the machine was started again"
        );
        for (other, why) in [
            (with(&|p| p.host = "z".into()), "another host"),
            (with(&|p| p.boot_id = None), "no boot id"),
            (with(&|p| p.pid_namespace = Some("z".into())), "another container"),
            (
                with(&|p| {
                    p.boot_id = Some("c".into());
                    p.machine_id = Some("z".into());
                }),
                "another machine of that name",
            ),
            (
                with(&|p| {
                    p.boot_id = Some("c".into());
                    p.machine_id = None;
                }),
                "perhaps another machine of that name",
            ),
        ] {
            assert!(!other.is_dead(&own, never), "{why}");
        }
    }

    proptest! {
        #[test]
        fn any_stat_is_answered(text in ".{0,200}") {
            let _ = start_of(&text);
        }
    }
}
