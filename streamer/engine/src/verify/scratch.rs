//! The best proof: restore into a scratch directory, start PostgreSQL on it, ask it something, throw it away.
//!
//! The server listens on a Unix socket in a private directory only, and follows nobody: the restore has neutralised
//! every setting that reaches out.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hardstorage_report::{BackupId, Error, EventSink, Result, code};
use hardstorage_repository::Deployment;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::programs::{Programs, major_of, verifybackup};
use crate::restore::{
    Owner, RecoveryTarget, RestoreOptions, RestorePlan, RestoreRequest, TargetAction, TargetTimeline, plan_restore,
    run_restore,
};

/// How the proof is made.
#[derive(Debug, Clone)]
pub struct ScratchPlan {
    /// The backup.
    pub backup: BackupId,
    /// Where to make the scratch directory.
    pub parent: PathBuf,
    /// Directory of PostgreSQL's programs.
    pub pg_bin: Option<PathBuf>,
    /// What to ask.
    pub query: String,
    /// The database to ask in.
    pub database: String,
    /// Threads.
    pub jobs: usize,
    /// The owner, when we are root.
    pub owner: Option<Owner>,
}

/// What PostgreSQL said.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreProof {
    /// The query.
    pub query: String,
    /// Its answer.
    pub answer: String,
    /// What `pg_verifybackup` said, when it is there.
    pub verifybackup: Option<String>,
    /// Milliseconds for the restore of the files.
    pub restore_ms: u64,
    /// Milliseconds until the server had recovered.
    pub recovery_ms: u64,
}

/// How long recovery to the backup's end may take.
const RECOVERY: Duration = Duration::from_hours(1);
/// Only part of the socket's name here; the source's own port means nothing in the scratch directory.
const PORT: &str = "5432";
/// How often the server is asked whether it is ready.
const POLL: Duration = Duration::from_millis(200);

fn failed(doing: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let message = format!("{doing} {}", path.display());
    move |error| Error::new(code::cli::IO, message).source(error)
}

/// Removes the scratch directory, whatever happens.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, "the scratch directory {} stays", self.0.display());
        }
    }
}

/// Stops the server, whatever happens.
struct Server {
    child: Child,
    log: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // SIGQUIT is PostgreSQL's immediate shutdown; what it leaves is thrown away.
            if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
            }
            let _ = self.child.wait();
        }
    }
}

impl Server {
    fn last_words(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = fs::File::open(&self.log) {
            // A log that cannot be read leaves the message without it.
            let _ = file.read_to_string(&mut text);
        }
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join(" | ")
    }
}

/// Restores, starts, asks, and throws away. `command` gives the restore_command for the plan.
pub async fn prove_by_restore(
    deployment: &Deployment,
    plan: &ScratchPlan,
    command: impl Fn(&RestorePlan) -> Result<String>,
    sink: Arc<dyn EventSink>,
    cancel: CancellationToken,
) -> Result<RestoreProof> {
    let random: [u8; 6] = deployment.surroundings().random()?;
    let root = plan.parent.join(format!("hsverify-{}", hex::encode(random)));
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&root)
        .map_err(failed("make", &root))?;
    let scratch = Scratch(root);
    if let Some(owner) = plan.owner {
        std::os::unix::fs::chown(&scratch.0, Some(owner.uid), Some(owner.gid))
            .map_err(failed("give away", &scratch.0))?;
    }
    fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o700))
        .map_err(failed("set the mode of", &scratch.0))?;
    let data = scratch.0.join("data");
    let request = RestoreRequest {
        backup: Some(plan.backup.clone()),
        target: data.clone(),
        goal: RecoveryTarget::Immediate,
        inclusive: true,
        action: Some(TargetAction::Promote),
        timeline: TargetTimeline::Latest,
        tablespace_mapping: Vec::new(),
        owner: plan.owner,
        running_as_root: rustix::process::geteuid().is_root(),
        repository_path: None,
    };
    let request = map_into(deployment, request, &scratch.0).await?;
    let restore = plan_restore(deployment, &request).await?;
    let options = RestoreOptions {
        jobs: plan.jobs,
        restore_command: command(&restore)?,
        run_id: None,
    };
    let restored = run_restore(deployment, &restore, &options, sink, cancel.clone()).await?;
    let verdict = verifybackup(plan.pg_bin.as_deref(), &data)?;
    let programs = Programs::find(plan.pg_bin.as_deref(), &major_of(&data)?, "postgres")?.ok_or_else(|| {
        Error::new(
            code::engine::PROGRAMS,
            format!(
                "PostgreSQL {} was not found on this machine",
                major_of(&data).unwrap_or_default()
            ),
        )
    })?;
    let began = Instant::now();
    let mut server = start(&programs, &data, &scratch.0)?;
    let answer = ask_when_ready(&programs, &data, &scratch.0, plan, &mut server, &cancel).await?;
    Ok(RestoreProof {
        query: plan.query.clone(),
        answer,
        verifybackup: verdict,
        restore_ms: restored.duration_ms,
        recovery_ms: began.elapsed().as_millis() as u64,
    })
}

/// Sends every tablespace into the scratch directory.
async fn map_into(deployment: &Deployment, mut request: RestoreRequest, scratch: &Path) -> Result<RestoreRequest> {
    let manifest = super::choose(deployment, request.backup.as_ref()).await?;
    request.tablespace_mapping = manifest
        .tablespaces
        .iter()
        .filter(|space| Path::new(&space.location).is_absolute())
        .map(|space| {
            (
                PathBuf::from(&space.location),
                scratch.join(format!("tablespace-{}", space.oid)),
            )
        })
        .collect();
    Ok(request)
}

fn start(programs: &Programs, data: &Path, scratch: &Path) -> Result<Server> {
    let log = scratch.join("server.log");
    let file = fs::File::create(&log).map_err(failed("create", &log))?;
    let other = file.try_clone().map_err(failed("open", &log))?;
    let mut command: Command = programs.command("postgres", Some(data))?;
    // Whoever asks comes through this socket, in a directory that only the owner can enter.
    let hba = scratch.join("hba.conf");
    fs::write(&hba, "local all all trust\n").map_err(failed("write", &hba))?;
    fs::set_permissions(&hba, fs::Permissions::from_mode(0o644)).map_err(failed("set the mode of", &hba))?;
    let settings = [
        "listen_addresses=".to_owned(),
        format!("port={PORT}"),
        format!("unix_socket_directories={}", scratch.display()),
        format!("hba_file={}", hba.display()),
        "ssl=off".to_owned(),
        "logging_collector=off".to_owned(),
        "log_destination=stderr".to_owned(),
        "shared_preload_libraries=".to_owned(),
        "max_logical_replication_workers=0".to_owned(),
        "autovacuum=off".to_owned(),
    ];
    command
        .arg("-D")
        .arg(data)
        .args(settings.iter().flat_map(|setting| ["-c", setting.as_str()]));
    let child = command.stdin(Stdio::null()).stdout(file).stderr(other).spawn();
    let child = child.map_err(|error| Error::new(code::engine::PROGRAMS, "start postgres").source(error))?;
    Ok(Server { child, log })
}

async fn ask_when_ready(
    programs: &Programs,
    data: &Path,
    socket: &Path,
    plan: &ScratchPlan,
    server: &mut Server,
    cancel: &CancellationToken,
) -> Result<String> {
    let deadline = Instant::now() + RECOVERY;
    let refused = |server: &Server, what: &str| {
        Error::new(
            code::engine::RESTORE_TEST,
            format!("{what}; the server's last words: {}", server.last_words()),
        )
    };
    loop {
        if cancel.is_cancelled() {
            return Err(Error::new(code::cli::INTERRUPTED, "the verification was interrupted"));
        }
        let ended = server
            .child
            .try_wait()
            .map_err(|error| Error::new(code::cli::IO, "look at postgres").source(error))?;
        if let Some(status) = ended {
            return Err(refused(server, &format!("PostgreSQL ended with {status}")));
        }
        if psql(programs, data, socket, "template1", "SELECT NOT pg_is_in_recovery()")?.as_deref() == Ok("t") {
            return match psql(programs, data, socket, &plan.database, &plan.query)? {
                Ok(answer) => Ok(answer),
                Err(words) => Err(refused(server, &format!("the query failed: {words}"))),
            };
        }
        if Instant::now() > deadline {
            return Err(refused(server, "recovery did not end"));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Asks through PostgreSQL's own client; the inner error is the client's words.
fn psql(
    programs: &Programs,
    data: &Path,
    socket: &Path,
    database: &str,
    query: &str,
) -> Result<Result<String, String>> {
    let user = "postgres";
    let output = programs
        .command("psql", Some(data))?
        .args([
            "-X",
            "-A",
            "-t",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            user,
            "-d",
            database,
            "-c",
            query,
            "-p",
            PORT,
            "-h",
        ])
        .arg(socket)
        .output()
        .map_err(|error| Error::new(code::engine::PROGRAMS, "run psql").source(error))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Ok(if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    })
}
