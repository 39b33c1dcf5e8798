//! Keeps the memory of a process that runs for ever small.
//!
//! glibc gives each thread a heap of its own and learns from large blocks that it need not give their memory back. A
//! stream moves buffers of a megabyte between threads for weeks, and with those habits holds twice what it uses (measured:
//! 110 MiB instead of 60). Both are set by the environment only, before the process begins, so the program starts itself
//! once more in its own place: the process id stays.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// One heap; blocks of a read buffer and more are given back at once.
const HABITS: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "262144"),
    ("MALLOC_TRIM_THRESHOLD_", "1048576"),
];

/// Starts the program again with the habits of a small process, unless it has them or somebody has chosen others.
pub(crate) fn stay_small(arguments: &[OsString]) {
    let chosen = HABITS.iter().any(|(name, _)| std::env::var_os(name).is_some());
    let (false, Ok(program), [name, words @ ..]) = (chosen, std::env::current_exe(), arguments) else {
        return;
    };
    let error = Command::new(program).arg0(name).args(words).envs(HABITS).exec();
    // It runs as well without; only larger.
    tracing::debug!(%error, "the program could not start itself again");
}
