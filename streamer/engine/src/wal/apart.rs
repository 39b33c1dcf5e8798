//! A thread of its own for a stream that commits wait for.
//!
//! Socket, recorder and disk share it. What came is made durable and told to the server where it was read: each way to another
//! thread, which mostly sleeps, costs as much as a fast disk takes to sync. The price is that nothing else happens on this
//! thread while the disk stands still, so somebody on the caller's runtime stands in for it with the server
//! ([`Acknowledge::stand_in`](hardstorage_replication::Acknowledge::stand_in)), and the caller ends without it when told to.
//!
//! What the stream has done beside, like packing segments whose bytes are durable already, yields to those who commit: it runs
//! on threads with less right to the processors.

use std::pin::pin;
use std::thread;

use hardstorage_report::{Error, Result, code};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// By so much the others yield: about a third of what somebody gets who does not.
const YIELD: i32 = 5;
/// As much as a process begins with.
const STACK: usize = 8 << 20;

/// Does the work on a thread of its own. It is given up when this is dropped.
pub(super) async fn apart<T, W>(work: impl FnOnce() -> W + Send + 'static) -> Result<T>
where
    T: Send + 'static,
    W: Future<Output = Result<T>>,
{
    let failed = |what| move |error| Error::new(code::cli::INTERNAL, what).source(error);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .on_thread_start(yield_to_others)
        .build()
        .map_err(failed("start the runtime of a stream"))?;
    let (mut done, told) = oneshot::channel();
    let body = move || {
        let ended = runtime.block_on(async {
            let mut work = pin!(work());
            tokio::select! {
                ended = &mut work => Some(ended),
                () = done.closed() => None,
            }
        });
        runtime.shutdown_background();
        if let Some(ended) = ended {
            // Nobody waits any more.
            let _ = done.send(ended);
        }
    };
    let thread = thread::Builder::new().name("wal-stream".to_owned()).stack_size(STACK);
    let started = thread.spawn(body);
    started.map_err(failed("start the thread of a stream"))?;
    told.await
        .map_err(|error| Error::new(code::cli::INTERNAL, "the thread of the stream has died").source(error))?
}

fn yield_to_others() {
    if let Err(errno) = rustix::process::nice(YIELD) {
        tracing::debug!(%errno, "a thread has the same right to the processors as those who commit");
    }
}
