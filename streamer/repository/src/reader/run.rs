//! Moves the content of a backup through: windows come from the planner, ranges of packs from the store, and go to the
//! worker threads. One task decides; it never computes.
//!
//! What bounds memory: the planner is at most one window ahead; a read begins only when its bytes fit into what may be
//! in flight, and gives them back when the last frame in it is dealt with.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use hardstorage_report::{BackupId, Error, Result, code};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::fetch::{self, Fault};
use super::options::ReadOptions;
use super::plan::Planner;
use super::pool::Pool;
use super::ranges::{self, Read};
use super::report::ContentReport;
use super::resolve::Planned;
use super::sink::FileSink;
use super::transfer::{Chunk, Job, Loss, Outcome, Shared, Ticket, Worker};
use super::window::Window;
use crate::{Damage, Deployment, PackId};

/// Reads in flight at most, whatever their size.
const READS: usize = 16;

/// Stretches of a window that are read at the same time: a file system lets one writer at a time into a file.
const LANES: usize = 4;

/// A read to come.
struct Task<H> {
    window: Arc<Window<H>>,
    pack: PackId,
    bytes: Range<u64>,
    frames: Range<usize>,
    last_try: bool,
}

struct Arrived<H> {
    task: Task<H>,
    ticket: Ticket<H>,
    bytes: Result<Bytes, Fault>,
}

/// Sends every file that the planner finds through `sink`. ContentDamage is in the report; an error is a store or a sink that
/// fails, or the end asked for.
pub(super) async fn run<S: FileSink>(
    deployment: &Deployment,
    planner: Planner<S::Handle>,
    sink: Arc<S>,
    options: &ReadOptions,
) -> Result<ContentReport> {
    let (outcomes, inbox) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared {
        sink,
        deployment: deployment.clone(),
        outcomes: outcomes.clone(),
        progress: options.progress.clone(),
        stop: AtomicBool::new(false),
        files: AtomicU64::new(0),
        damaged_files: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        kept: AtomicU64::new(0),
        frames: AtomicU64::new(0),
    });
    let pool = {
        let shared = Arc::clone(&shared);
        Pool::start(options.jobs, "decode", move || {
            let mut worker = Worker::new(Arc::clone(&shared));
            move |job| worker.run(&job)
        })?
    };
    // One planned window waits, one is being read.
    let (plan, windows) = mpsc::channel(1);
    let mut planning = JoinSet::new();
    planning.spawn(planner.run(options.windows, plan));
    let mut run = Run {
        deployment: deployment.clone(),
        budget: Arc::new(Semaphore::new(
            options.in_flight.clamp(1, u64::from(u32::MAX >> 1)) as usize
        )),
        whole_budget: options.in_flight.clamp(1, u64::from(u32::MAX >> 1)),
        read_size: options.read_size.max(1),
        lanes: options.jobs.clamp(1, LANES),
        outcomes,
        tasks: VecDeque::new(),
        reads: JoinSet::new(),
        outstanding: 0,
        missing: HashSet::new(),
        report: ContentReport::default(),
    };
    let ended = tokio::select! {
        biased;
        () = options.cancel.cancelled() => Err(Error::new(code::cli::INTERRUPTED, "stopped before the end")),
        ended = run.go(&pool, &mut planning, windows, inbox) => ended,
    };
    shared.stop.store(ended.is_err(), Ordering::Relaxed);
    run.reads.abort_all();
    let sound = pool.finish(ended.is_err()).await;
    ended?;
    let mut report = run.report;
    report.files = shared.files.load(Ordering::Relaxed);
    report.damaged_files = shared.damaged_files.load(Ordering::Relaxed);
    report.bytes = shared.bytes.load(Ordering::Relaxed);
    report.kept = shared.kept.load(Ordering::Relaxed);
    report.frames = shared.frames.load(Ordering::Relaxed);
    report.recorded = record(deployment, &report, options.backup_id.as_ref()).await;
    if sound {
        Ok(report)
    } else {
        Err(Error::new(code::cli::INTERNAL, "a worker thread ended unexpectedly"))
    }
}

/// Remembers bad frames in the repository. A reader need not be able to write: the report holds the damage anyway.
async fn record(deployment: &Deployment, report: &ContentReport, backup: Option<&BackupId>) -> u64 {
    let mut recorded = 0;
    for damage in &report.damages.named {
        let (Some((pack, _)), Some(frame), false) = (damage.pack, damage.frame, damage.pack_missing) else {
            continue;
        };
        match Damage::record(deployment, pack, frame, &damage.reason, backup).await {
            Ok(new) => recorded += u64::from(new),
            Err(error) => {
                tracing::warn!(%error, object = damage.object, frame, "the damage could not be recorded");
                break;
            }
        }
    }
    recorded
}

struct Run<H> {
    deployment: Deployment,
    budget: Arc<Semaphore>,
    whole_budget: u64,
    read_size: u64,
    lanes: usize,
    outcomes: mpsc::UnboundedSender<Outcome<H>>,
    tasks: VecDeque<Task<H>>,
    reads: JoinSet<Arrived<H>>,
    /// Jobs and reads whose ticket lives.
    outstanding: u64,
    /// Packs that are not there: not asked for again.
    missing: HashSet<PackId>,
    report: ContentReport,
}

impl<H: Send + Sync + 'static> Run<H> {
    async fn go(
        &mut self,
        pool: &Pool<Job<H>>,
        planner: &mut JoinSet<Result<()>>,
        mut windows: mpsc::Receiver<Planned<H>>,
        mut inbox: mpsc::UnboundedReceiver<Outcome<H>>,
    ) -> Result<()> {
        let mut planning = true;
        loop {
            while self.reads.len() < READS {
                let Some(task) = self.tasks.pop_front() else { break };
                self.begin(task, pool);
            }
            if !planning && planner.is_empty() && self.outstanding == 0 && self.tasks.is_empty() {
                return Ok(());
            }
            tokio::select! {
                biased;
                Some(outcome) = inbox.recv() => match outcome {
                    Outcome::Done => self.outstanding -= 1,
                    Outcome::Failed(error) => return Err(error),
                    Outcome::Damaged(damage) => self.report.damages.add(damage),
                    Outcome::Again(window, frame) => self.again(window, frame),
                },
                Some(arrived) = self.reads.join_next(), if !self.reads.is_empty() => match arrived {
                    Ok(arrived) => self.arrived(arrived, pool)?,
                    Err(error) => {
                        return Err(Error::new(code::cli::INTERNAL, "a read ended unexpectedly").source(error));
                    }
                },
                Some(planned) = planner.join_next(), if !planner.is_empty() => match planned {
                    Ok(planned) => planned?,
                    Err(error) => {
                        return Err(Error::new(code::cli::INTERNAL, "planning ended unexpectedly").source(error));
                    }
                },
                planned = windows.recv(), if planning && self.tasks.is_empty() => match planned {
                    Some(Planned::Window(window)) => self.enter(window, pool),
                    Some(Planned::Damaged(damage)) => self.report.damages.add(damage),
                    None => planning = false,
                },
            }
        }
    }

    fn ticket(&mut self) -> Ticket<H> {
        self.outstanding += 1;
        Ticket::new(&self.outcomes)
    }

    fn enter(&mut self, window: Window<H>, pool: &Pool<Job<H>>) {
        let window = Arc::new(window);
        if !window.bare.is_empty() {
            let ticket = self.ticket();
            let window = Arc::clone(&window);
            let job = Job::Bare {
                window,
                _ticket: ticket,
            };
            pool.queue().push([(None, job)]);
        }
        let reads = ranges::merge(window.places(), ranges::GAP, self.read_size);
        let raw_len = |read: &Read| window.raw_len(read.frames.clone());
        for read in ranges::interleave(reads, raw_len, self.lanes) {
            let Read { pack, bytes, frames } = read;
            if let Some(pack) = window.packs.get(pack as usize).copied() {
                let window = Arc::clone(&window);
                self.tasks.push_back(Task {
                    window,
                    pack,
                    bytes,
                    frames,
                    last_try: false,
                });
            }
        }
    }

    /// One more read, of a single frame.
    fn again(&mut self, window: Arc<Window<H>>, frame: usize) {
        let place = window
            .frames
            .get(frame)
            .and_then(|frame| Some((window.pack_of(&frame.pos)?, frame.pos.offset..frame.pos.end())));
        if let Some((pack, bytes)) = place {
            let frames = frame..frame + 1;
            self.tasks.push_front(Task {
                window,
                pack,
                bytes,
                frames,
                last_try: true,
            });
        }
    }

    fn begin(&mut self, task: Task<H>, pool: &Pool<Job<H>>) {
        let ticket = self.ticket();
        if self.missing.contains(&task.pack) {
            let lost = lost(task, "the pack is not there".into(), true, ticket);
            pool.queue().push([(None, lost)]);
            return;
        }
        let (budget, whole) = (Arc::clone(&self.budget), self.whole_budget);
        let deployment = self.deployment.clone();
        self.reads.spawn(async move {
            let share = (task.bytes.end - task.bytes.start).clamp(1, whole) as u32;
            // The semaphore is never closed; without a share the read would only be unbounded.
            let ticket = ticket.holding(budget.acquire_many_owned(share).await.ok());
            let bytes = fetch::range(&deployment, task.pack, task.bytes.clone()).await;
            Arrived { task, ticket, bytes }
        });
    }

    fn arrived(&mut self, arrived: Arrived<H>, pool: &Pool<Job<H>>) -> Result<()> {
        let Arrived { task, ticket, bytes } = arrived;
        match bytes {
            Ok(bytes) => {
                self.report.read_bytes += bytes.len() as u64;
                let frames = task.frames;
                let chunk = Arc::new(Chunk {
                    window: task.window,
                    start: task.bytes.start,
                    bytes,
                    last_try: task.last_try,
                    _ticket: ticket,
                });
                pool.queue().push(frames.map(|frame| {
                    let file = chunk.window.first_file(frame);
                    // Where the file lies in memory: another one for every file that is on its way.
                    let about = file.map(|file| Arc::as_ptr(file).addr());
                    (about, Job::Frame(Arc::clone(&chunk), frame))
                }));
            }
            Err(Fault::Store(error)) => return Err(error),
            Err(Fault::Missing(reason)) => {
                self.missing.insert(task.pack);
                pool.queue().push([(None, lost(task, reason, true, ticket))]);
            }
            Err(Fault::Bad(reason)) if task.last_try => {
                pool.queue().push([(None, lost(task, reason, false, ticket))]);
            }
            Err(Fault::Bad(_)) => {
                // A pack that was cut off still holds what lies before the cut.
                for frame in task.frames {
                    self.again(Arc::clone(&task.window), frame);
                }
            }
        }
        Ok(())
    }
}

fn lost<H>(task: Task<H>, reason: String, pack_missing: bool, ticket: Ticket<H>) -> Job<H> {
    Job::Lost {
        window: task.window,
        frames: task.frames,
        loss: Loss { reason, pack_missing },
        _ticket: ticket,
    }
}
