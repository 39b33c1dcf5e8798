//! A fixed set of OS threads for opening, decompressing and hashing frames.
//!
//! Each thread owns its buffers for its whole life. The queue itself has no bound: what lies in it is bounded by the
//! bytes that its feeder may have in flight. Nothing here runs on the threads of the asynchronous runtime.
//!
//! Jobs say what they are *about*: the file that they write. A thread goes on with the file that it is at and begins one
//! that nobody is at, because file systems let one writer at a time into a file: two threads in one file wait for each
//! other longer than the copying takes. Only when nothing else waits do several work on one file.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use hardstorage_report::{Error, Result, code};

/// What jobs are about; of two with different ones neither stands in the other's way.
pub(super) type About = usize;

/// Jobs that follow each other and are about the same.
struct Group<J> {
    about: Option<About>,
    jobs: VecDeque<J>,
}

struct State<J> {
    groups: VecDeque<Group<J>>,
    /// What each thread is about.
    busy: Vec<Option<About>>,
    closed: bool,
}

impl<J> State<J> {
    /// The next job for a thread: of what it is about, else of what no thread is about, else any; the oldest first.
    fn next(&mut self, thread: usize) -> Option<J> {
        let own = self.busy.get(thread).copied().flatten();
        let of_group =
            |wanted: &dyn Fn(Option<About>) -> bool| self.groups.iter().position(|group| wanted(group.about));
        let chosen = own
            .and_then(|own| of_group(&|about| about == Some(own)))
            .or_else(|| of_group(&|about| about.is_none() || !self.busy.contains(&about)))
            .unwrap_or(0);
        let group = self.groups.get_mut(chosen)?;
        let (about, job) = (group.about, group.jobs.pop_front());
        if group.jobs.is_empty() {
            self.groups.remove(chosen);
        }
        if let Some(busy) = self.busy.get_mut(thread) {
            *busy = about;
        }
        job
    }
}

/// Jobs on their way to the threads.
pub(super) struct Queue<J> {
    state: Mutex<State<J>>,
    ready: Condvar,
}

impl<J> Queue<J> {
    fn lock(&self) -> std::sync::MutexGuard<'_, State<J>> {
        // A thread that panicked while it held the lock cannot have left the queue half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds jobs, each with what it is about, and wakes the threads. After `close` they are dropped.
    pub(super) fn push(&self, jobs: impl IntoIterator<Item = (Option<About>, J)>) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        let before = state.groups.len();
        for (about, job) in jobs {
            let last = state.groups.len().checked_sub(1).filter(|last| *last >= before);
            match last.and_then(|last| state.groups.get_mut(last)) {
                Some(group) if group.about == about => group.jobs.push_back(job),
                _ => state.groups.push_back(Group {
                    about,
                    jobs: VecDeque::from([job]),
                }),
            }
        }
        drop(state);
        self.ready.notify_all();
    }

    fn next(&self, thread: usize) -> Option<J> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.next(thread) {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            if let Some(busy) = state.busy.get_mut(thread) {
                *busy = None;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self, discard: bool) {
        let mut state = self.lock();
        state.closed = true;
        let dropped = if discard {
            std::mem::take(&mut state.groups)
        } else {
            VecDeque::new()
        };
        drop(state);
        drop(dropped);
        self.ready.notify_all();
    }
}

/// A thread that panics takes the queue with it: what waits is dropped, so that nobody waits for it in vain.
struct Guard<J>(Arc<Queue<J>>);

impl<J> Drop for Guard<J> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.close(true);
        }
    }
}

/// The threads. Dropping it discards what waits and lets the threads end on their own.
pub(super) struct Pool<J: Send + 'static> {
    queue: Arc<Queue<J>>,
    threads: Vec<JoinHandle<()>>,
}

impl<J: Send + 'static> Pool<J> {
    /// Starts `count` threads; `worker` makes what each of them runs for every job.
    pub(super) fn start<W>(count: usize, name: &str, worker: impl Fn() -> W) -> Result<Pool<J>>
    where
        W: FnMut(J) + Send + 'static,
    {
        let queue = Arc::new(Queue {
            state: Mutex::new(State {
                groups: VecDeque::new(),
                busy: vec![None; count.max(1)],
                closed: false,
            }),
            ready: Condvar::new(),
        });
        let mut pool = Pool {
            queue: Arc::clone(&queue),
            threads: Vec::new(),
        };
        for number in 0..count.max(1) {
            let (queue, mut run) = (Arc::clone(&queue), worker());
            let thread = std::thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || {
                    let _guard = Guard(Arc::clone(&queue));
                    while let Some(job) = queue.next(number) {
                        run(job);
                    }
                })
                .map_err(|error| Error::new(code::cli::INTERNAL, "start a worker thread").source(error))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Where jobs go in.
    pub(super) fn queue(&self) -> &Arc<Queue<J>> {
        &self.queue
    }

    /// Ends the threads and waits for them; `discard` drops the jobs that no thread has begun. False when one panicked.
    pub(super) async fn finish(mut self, discard: bool) -> bool {
        self.queue.close(discard);
        let threads = std::mem::take(&mut self.threads);
        tokio::task::spawn_blocking(move || threads.into_iter().all(|thread| thread.join().is_ok()))
            .await
            .unwrap_or(false)
    }
}

impl<J: Send + 'static> Drop for Pool<J> {
    fn drop(&mut self) {
        self.queue.close(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[tokio::test]
    async fn every_job_runs_once() {
        let sum = Arc::new(AtomicU64::new(0));
        let pool = {
            let sum = Arc::clone(&sum);
            Pool::start(3, "test", move || {
                let sum = Arc::clone(&sum);
                move |job: u64| {
                    sum.fetch_add(job, Ordering::Relaxed);
                }
            })
            .unwrap()
        };
        for start in 0..10 {
            pool.queue()
                .push((start * 100..start * 100 + 100).map(|job| ((job % 7 > 0).then_some(job as About % 7), job)));
        }
        assert!(pool.finish(false).await);
        assert_eq!(sum.load(Ordering::Relaxed), 999 * 1000 / 2);
    }

    /// Two threads and two files: each goes on with its own, and helps the other only when nothing else is left.
    #[test]
    fn threads_keep_out_of_each_others_files() {
        let group = |about, jobs: [u32; 2]| Group {
            about,
            jobs: VecDeque::from(jobs),
        };
        let mut state = State {
            groups: VecDeque::from([
                group(Some(1), [10, 11]),
                group(Some(1), [12, 13]),
                group(Some(2), [20, 21]),
                group(None, [0, 1]),
            ]),
            busy: vec![None; 2],
            closed: false,
        };
        let order: Vec<_> = [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0]
            .into_iter()
            .map(|thread| state.next(thread))
            .collect();
        let expected = [10, 20, 11, 21, 12, 0, 13, 1];
        assert_eq!(order, [expected.map(Some).to_vec(), vec![None; 3]].concat());
        let mut state = State {
            groups: VecDeque::from([group(Some(1), [10, 11])]),
            ..state
        };
        assert_eq!([0, 1, 0].map(|thread| state.next(thread)), [Some(10), Some(11), None]);
    }

    #[tokio::test]
    async fn a_panic_is_reported_and_waiting_jobs_can_be_dropped() {
        let pool = Pool::start(1, "test", || |job: bool| assert!(job, "as the test wants")).unwrap();
        pool.queue().push([(None, false)]);
        assert!(!pool.finish(false).await);

        let held = Arc::new(());
        let pool = Pool::start(1, "test", || |job: Arc<()>| drop(job)).unwrap();
        let queue = Arc::clone(pool.queue());
        assert!(pool.finish(true).await);
        queue.push([(None, Arc::clone(&held))]);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
