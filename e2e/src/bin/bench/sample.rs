//! One measured run: wall, CPU of the program with its children, CPU of the server meanwhile, peak memory, and how much
//! other work the machine did beside it. All of it is read from `/proc`.

use std::fs::{self, File};
use std::hint::black_box;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// The kernel's unit for CPU time in `/proc`: fixed at 100 a second for user space.
const TICKS: f64 = 100.0;
const PAGE: u64 = 4096;

/// What one run cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// Seconds from start to end.
    pub wall: f64,
    /// CPU seconds of the program and its children.
    pub cpu: f64,
    /// CPU seconds of the PostgreSQL server meanwhile.
    pub server: f64,
    /// Peak resident bytes of the largest process.
    pub largest: u64,
    /// Peak resident bytes of all its processes at one moment.
    pub tree: u64,
    /// Cores that everything else used.
    pub others: f64,
    /// Bytes and files that it added to its repository, where that is asked.
    pub added: u64,
    /// Transactions per second, where a load ran.
    pub tps: f64,
}

/// What was used so far, of which differences are taken.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    begun: Instant,
    machine: f64,
    server: f64,
    postmaster: u32,
}

impl Meter {
    /// Begins; `postmaster` is the server whose CPU is told apart.
    pub fn start(postmaster: u32) -> Meter {
        Meter {
            begun: Instant::now(),
            machine: machine_cpu(),
            server: family_cpu(postmaster),
            postmaster,
        }
    }

    /// Ends, with the CPU seconds of the program itself.
    pub fn stop(&self, cpu: f64) -> Sample {
        let wall = self.begun.elapsed().as_secs_f64();
        let server = family_cpu(self.postmaster) - self.server;
        let others = ((machine_cpu() - self.machine - cpu - server) / wall).max(0.0);
        Sample {
            wall,
            cpu,
            server,
            others,
            ..Sample::default()
        }
    }
}

/// Runs a program to its end and measures it; its output goes to `log`, which is shown when it fails.
pub fn measure(mut command: Command, postmaster: u32, log: &Path) -> Sample {
    let file = File::create(log).unwrap();
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file);
    let meter = Meter::start(postmaster);
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let (largest, tree) = while_it_runs(&child);
    // Its end is known, but it is not reaped yet: this is the moment when its CPU time is complete and still there.
    let cpu = own_and_waited_cpu(child.id());
    let mut sample = meter.stop(cpu);
    let status = child.wait().unwrap();
    let said = || fs::read_to_string(log).unwrap_or_default();
    assert!(
        status.success(),
        "{command:?} ended with {status}
{}",
        said()
    );
    (sample.largest, sample.tree) = (largest, tree);
    sample
}

/// Watches the memory of a child until it ends; leaves it as a zombie.
fn while_it_runs(child: &Child) -> (u64, u64) {
    let (ended, pid) = (AtomicBool::new(false), child.id());
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut peak = (0, 0);
            while !ended.load(Ordering::Relaxed) {
                let (largest, tree) = memory(pid);
                peak = (largest.max(peak.0), tree.max(peak.1));
                thread::park_timeout(Duration::from_millis(20));
            }
            peak
        });
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(child)), options).unwrap();
        ended.store(true, Ordering::Relaxed);
        watcher.thread().unpark();
        watcher.join().unwrap()
    })
}

/// The memory of a process and its descendants: the peak of the largest, and the sum now.
pub fn memory(root: u32) -> (u64, u64) {
    let mut sums = (0, 0);
    for pid in family(root) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|text| text.trim().strip_suffix(" kB"));
        sums.0 = sums
            .0
            .max(peak.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0) * 1024);
        let resident = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
        sums.1 += resident
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<u64>().ok())
            .unwrap_or(0)
            * PAGE;
    }
    sums
}

/// The CPU seconds of a process so far, with the children that it waited for.
pub fn own_and_waited_cpu(pid: u32) -> f64 {
    stat(pid).map_or(0.0, |fields| fields.cpu)
}

/// The same for it and every descendant that lives.
fn family_cpu(root: u32) -> f64 {
    family(root).into_iter().map(own_and_waited_cpu).sum()
}

struct Stat {
    parent: u32,
    cpu: f64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold anything; the rest is numbers, beginning with the third field.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = fields
        .get(11..15)?
        .iter()
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        cpu: ticks / TICKS,
    })
}

fn family(root: u32) -> Vec<u32> {
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.parent)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

/// The CPU seconds that the whole machine was busy.
fn machine_cpu() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap();
    let first = text.lines().next().unwrap_or_default();
    let fields: Vec<f64> = first
        .split_ascii_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system, and the interrupts; not idle, iowait, steal, and not guest, which user holds already.
    [0, 1, 2, 5, 6].iter().filter_map(|at| fields.get(*at)).sum::<f64>() / TICKS
}

/// Makes runs equal: everything dirty is on disk, and memory that the host took back has been touched.
pub fn settle(bytes: u64) {
    rustix::fs::sync();
    drop(black_box(vec![1_u8; bytes as usize]));
}
