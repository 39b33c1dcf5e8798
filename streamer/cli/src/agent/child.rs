//! One child process: this program with another command. Its events are passed on with the deployment's name, its
//! document is kept, and it is ended when it takes too long: SIGTERM, and SIGKILL when that is not heard.
//!
//! No child outlives us for long: `--exit-with-parent` has the kernel tell it when we are gone, however we went. It gets a
//! process group of its own, so that Ctrl-C on a terminal reaches it once, through us.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hardstorage_report::{DeploymentName, ErrorReport, Event, EventSink, Severity};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// A child that was told to end has so long until it is killed.
const GRACE: Duration = Duration::from_secs(90);
/// Whoever inherited a pipe of the child must not keep us.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// The longest document that is kept.
const DOCUMENT: u64 = 64 << 20;

/// How this program is started again.
#[derive(Debug, Clone)]
pub(crate) struct Launcher {
    /// The program.
    pub(crate) program: PathBuf,
    /// Options of every command.
    pub(crate) options: Vec<OsString>,
}

/// How a child ended.
#[derive(Debug, Default)]
pub(crate) struct End {
    /// The exit code; none when a signal ended it, or when it could not be started.
    pub(crate) exit: Option<u8>,
    /// It took longer than it may.
    pub(crate) hung: bool,
    /// It was told to end.
    pub(crate) told: bool,
    /// It did not listen, and was killed.
    pub(crate) killed: bool,
    /// What went wrong, in its own words or in ours.
    pub(crate) error: Option<ErrorReport>,
    /// The result in its document.
    pub(crate) result: Value,
}

impl End {
    /// Whether it ended as it should.
    pub(crate) fn is_good(&self) -> bool {
        self.exit == Some(0)
    }
}

/// What is known of a child while it runs.
#[derive(Debug)]
struct Shared {
    begun: Instant,
    /// Milliseconds from the beginning to its last word.
    spoke: AtomicU64,
    address: Mutex<Option<SocketAddr>>,
}

/// A running child. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Child {
    shared: Arc<Shared>,
    stop: CancellationToken,
    kill: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

impl Child {
    /// Tells it to end; after a while it is killed.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Kills it.
    pub(crate) fn kill(&self) {
        self.kill.cancel();
    }

    /// For how long it has said nothing.
    pub(crate) fn silence(&self) -> Duration {
        let spoke = Duration::from_millis(self.shared.spoke.load(Ordering::Relaxed));
        self.shared.begun.elapsed().saturating_sub(spoke)
    }

    /// Where it answers, once it said so.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        *self.shared.address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a child is started for.
pub(crate) struct Errand<K> {
    /// What comes back with its end.
    pub(crate) key: K,
    /// The deployment.
    pub(crate) deployment: DeploymentName,
    /// The command.
    pub(crate) words: Vec<String>,
    /// It is taken for hung after so long.
    pub(crate) limit: Option<Duration>,
}

impl Launcher {
    /// Starts one; its end goes to `ends`, also that of one that could not be started.
    pub(crate) fn start<K: Send + 'static>(
        &self,
        errand: Errand<K>,
        sink: Arc<dyn EventSink>,
        ends: UnboundedSender<(K, End)>,
    ) -> Child {
        let shared = Arc::new(Shared {
            begun: Instant::now(),
            spoke: AtomicU64::new(0),
            address: Mutex::new(None),
        });
        let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
        // Spawned here and not in the task: the kernel tells a child of the death of the thread that made it, and this is the
        // main one.
        let spawned = self.command(&errand.words).spawn();
        let (follow, told, killed) = (shared.clone(), stop.clone(), kill.clone());
        let task = tokio::spawn(async move {
            let end = match spawned {
                Ok(child) => watch(child, &errand.deployment, errand.limit, &follow, sink, &told, &killed).await,
                Err(error) => End {
                    error: Some(own_words("start the program", &error)),
                    ..End::default()
                },
            };
            // Nobody listens any more when the agent has ended.
            let _ = ends.send((errand.key, end));
        });
        Child {
            shared,
            stop,
            kill,
            _task: AbortOnDropHandle::new(task),
        }
    }

    fn command(&self, words: &[String]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg0("pg_hardstorage")
            .args(&self.options)
            .arg("--exit-with-parent")
            .arg(std::process::id().to_string())
            .args(words)
            // The configuration says which server and which repository each deployment has; these would say it for all.
            .env_remove("PG_HARDSTORAGE_REPO")
            .env_remove("PG_HARDSTORAGE_PG_CONNECTION")
            // Where the keys are is in the configuration that we give.
            .env_remove("PG_HARDSTORAGE_KEYRING_DIR")
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

async fn watch(
    mut child: tokio::process::Child,
    deployment: &DeploymentName,
    limit: Option<Duration>,
    shared: &Arc<Shared>,
    sink: Arc<dyn EventSink>,
    stop: &CancellationToken,
    kill: &CancellationToken,
) -> End {
    let events = child.stderr.take().map(|stderr| {
        let (deployment, shared) = (deployment.clone(), shared.clone());
        AbortOnDropHandle::new(tokio::spawn(pass_on(stderr, deployment, shared, sink)))
    });
    let document = child
        .stdout
        .take()
        .map(|stdout| AbortOnDropHandle::new(tokio::spawn(read(stdout))));
    let mut end = End::default();
    let over = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        status = child.wait() => return finish(end, status, events, document).await,
        () = stop.cancelled() => end.told = true,
        () = kill.cancelled() => end.told = true,
        () = over => end.hung = true,
    }
    signal(&child, Signal::TERM);
    tokio::select! {
        status = child.wait() => return finish(end, status, events, document).await,
        () = tokio::time::sleep(GRACE) => {}
        () = kill.cancelled() => {}
    }
    end.killed = true;
    signal(&child, Signal::KILL);
    // A process that the kernel holds in a call cannot be waited for by anybody else: nothing new is started for it.
    let status = child.wait().await;
    finish(end, status, events, document).await
}

fn signal(child: &tokio::process::Child, signal: Signal) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = kill_process(pid, signal)
    {
        // It has ended in this moment.
        tracing::debug!(%error, "a child could not be signalled");
    }
}

async fn finish(
    mut end: End,
    status: std::io::Result<ExitStatus>,
    events: Option<AbortOnDropHandle<()>>,
    document: Option<AbortOnDropHandle<String>>,
) -> End {
    let deadline = tokio::time::Instant::now() + LAST_WORDS;
    if let Some(events) = events {
        // What a grandchild goes on saying is not the child's.
        let _ = tokio::time::timeout_at(deadline, events).await;
    }
    let text = match document {
        Some(document) => tokio::time::timeout_at(deadline, document)
            .await
            .ok()
            .and_then(Result::ok),
        None => None,
    };
    let mut document: Value = text
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    end.result = document["result"].take();
    end.error = serde_json::from_value(document["error"].take()).ok();
    match status {
        Ok(status) => {
            end.exit = status.code().and_then(|code| u8::try_from(code).ok());
            if !end.is_good() && end.error.is_none() {
                end.error = Some(own_words("run the command", &status));
            }
        }
        Err(error) => end.error = Some(own_words("wait for the command", &error)),
    }
    end
}

/// An error that the child could not tell by itself.
fn own_words(doing: &str, what: &dyn std::fmt::Display) -> ErrorReport {
    use hardstorage_report::{Error, code};
    let error = Error::new(code::cli::CHILD, format!("{doing}: {what}"));
    ErrorReport::from(&error)
}

/// The document on stdout, if it has a bearable size.
async fn read(stdout: impl AsyncRead + Unpin) -> String {
    let mut text = String::new();
    if let Err(error) = stdout.take(DOCUMENT).read_to_string(&mut text).await {
        tracing::debug!(%error, "the document of a child could not be read");
    }
    text
}

/// The events on stderr, each as our own.
async fn pass_on(
    stderr: impl AsyncRead + Unpin,
    deployment: DeploymentName,
    shared: Arc<Shared>,
    sink: Arc<dyn EventSink>,
) {
    let mut lines = BufReader::new(stderr).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let elapsed = u64::try_from(shared.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        shared.spoke.store(elapsed, Ordering::Relaxed);
        let text = String::from_utf8_lossy(&line);
        let event = match serde_json::from_str::<Event>(&text) {
            Ok(event) => event,
            Err(_) if text.trim().is_empty() => continue,
            // A library's complaint, a panic: whatever it is, somebody may want to read it.
            Err(_) => Event::new(Severity::Warning, "agent.child.said").body(json!({"message": text.trim_end()})),
        };
        if event.name == "report.listening" {
            let address = event.body["address"].as_str().and_then(|text| text.parse().ok());
            *shared.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
            // Ours to know: who asks, asks us.
            continue;
        }
        let mut event = event;
        event.subject.deployment.get_or_insert_with(|| deployment.clone());
        sink.emit(event);
    }
}

#[cfg(test)]
#[path = "child_tests.rs"]
pub(super) mod tests;
