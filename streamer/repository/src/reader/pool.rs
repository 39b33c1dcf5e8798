//! A fixed set of OS threads for opening, decompressing and hashing frames.
//!
//! Each thread owns its buffers for its whole life. The queue itself has no bound: what lies in it is bounded by the
//! bytes that its feeder may have in flight. Nothing here runs on the threads of the asynchronous runtime.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use hardstorage_report::{Error, Result, code};

struct State<J> {
    jobs: VecDeque<J>,
    closed: bool,
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

    /// Adds jobs and wakes the threads. After `close` they are dropped.
    pub(super) fn push(&self, jobs: impl IntoIterator<Item = J>) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        state.jobs.extend(jobs);
        drop(state);
        self.ready.notify_all();
    }

    fn next(&self) -> Option<J> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self, discard: bool) {
        let mut state = self.lock();
        state.closed = true;
        let dropped = if discard {
            std::mem::take(&mut state.jobs)
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
                jobs: VecDeque::new(),
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
                    while let Some(job) = queue.next() {
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
            pool.queue().push(start * 100..start * 100 + 100);
        }
        assert!(pool.finish(false).await);
        assert_eq!(sum.load(Ordering::Relaxed), 999 * 1000 / 2);
    }

    #[tokio::test]
    async fn a_panic_is_reported_and_waiting_jobs_can_be_dropped() {
        let pool = Pool::start(1, "test", || |job: bool| assert!(job, "as the test wants")).unwrap();
        pool.queue().push([false]);
        assert!(!pool.finish(false).await);

        let held = Arc::new(());
        let pool = Pool::start(1, "test", || |job: Arc<()>| drop(job)).unwrap();
        let queue = Arc::clone(pool.queue());
        assert!(pool.finish(true).await);
        queue.push([Arc::clone(&held)]);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
