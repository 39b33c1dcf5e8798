//! Keeps the memory of a process that runs for ever small.
//!
//! glibc gives each thread a heap of its own, and learns from large blocks that it need not give their memory back. What is
//! read of the API server after a start is many times what stays of it. Both habits are set by the environment only, before
//! the process begins, so the program starts itself once more in its own place: the process id stays.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// One heap; blocks of a page of a list and more are given back at once.
const HABITS: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
    ("MALLOC_TRIM_THRESHOLD_", "1048576"),
];

/// Starts the program again with the habits of a small process, unless it has them or somebody has chosen others.
pub fn stay_small(arguments: &[OsString]) -> std::io::Result<()> {
    let chosen = HABITS.iter().any(|(name, _)| std::env::var_os(name).is_some());
    let (false, [name, words @ ..]) = (chosen, arguments) else {
        return Ok(());
    };
    let program = std::env::current_exe()?;
    Err(Command::new(program).arg0(name).args(words).envs(HABITS).exec())
}
