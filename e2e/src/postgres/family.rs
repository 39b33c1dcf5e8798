//! The processes of a server: a postmaster and its children, and signals to all of them at once.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::answer::until;

/// The children of a process now.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap();
    let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// The children of a process now, and theirs, and so on.
pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut asked = 0;
    while let Some(parent) = found.get(asked) {
        found.extend(children(*parent));
        asked += 1;
    }
    found.split_off(1)
}

/// The fourth field of its `stat`, of which the second is a name in brackets that may hold anything.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Sends a signal to each.
pub(crate) fn signal(pids: &[u32], signal: Signal) {
    for pid in pids {
        if let Some(pid) = Pid::from_raw(*pid as i32) {
            // Only a process that has ended meanwhile is not there.
            kill_process(pid, signal).ok();
        }
    }
}

/// Waits until none of them runs: only then is the memory that they share free for the next server.
#[track_caller]
pub(crate) fn until_gone(pids: &[u32]) {
    until("the server's processes have ended", Duration::from_mins(1), || {
        pids.iter().all(|pid| ended(*pid)).then_some(())
    });
}

/// Not there, or dead and only not buried yet by whoever inherited it.
fn ended(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| {
            stat.rsplit_once(')')
                .map(|(_, behind)| behind.trim_start().starts_with('Z'))
        })
        .unwrap_or(true)
}
