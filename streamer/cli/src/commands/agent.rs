//! `agent`: every deployment of the configuration, each on its own.
//!
//! The configuration is taken as a whole: what was read and found good is copied into the state directory, and the children
//! read that copy. A file that is being edited, or a mistake in it, reaches nothing before a reload has accepted it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hardstorage_report::{DeploymentName, Error, Event, EventSink, Result, Severity, code};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::answer;
use crate::agent::{Book, Launcher, Manager, Plan, Pulse, Stopped, Supervisor, Table, serve, table};
use crate::app::App;
use crate::args::AgentArgs;
use crate::config::Config;
use crate::printer::{Printer, Report};

impl Report for Stopped {
    fn text(&self) -> String {
        if self.clean_stop {
            return "✓ agent stopped: what its streams had received is durable\n".to_owned();
        }
        let killed: Vec<&str> = self.killed.iter().map(DeploymentName::as_str).collect();
        format!(
            "✗ agent stopped: not everything ended in time, and was killed: {}\n",
            killed.join(", ")
        )
    }
}

/// Prints what the agent and its children tell.
struct Relay(Arc<Printer>);

impl EventSink for Relay {
    fn emit(&self, event: Event) {
        self.0.relay(&event);
    }
}

/// Runs it.
pub(crate) async fn run(app: &App, args: AgentArgs) -> u8 {
    if args.dry_run {
        return answer(app, "agent", preview(app)).await;
    }
    match look_after(app, args).await {
        Ok(stopped) => {
            app.printer.result("agent", &stopped);
            if stopped.clean_stop {
                0
            } else {
                code::cli::INTERRUPTED.info().exit
            }
        }
        Err(error) => {
            app.printer.error("agent", &error);
            error.exit_code()
        }
    }
}

fn state(app: &App) -> PathBuf {
    app.paths.state.join("agent")
}

/// This program as it is now, also when another version has taken its place since.
fn launcher(app: &App, config: &Path) -> Launcher {
    let mut options: Vec<OsString> = vec!["--config".into(), config.into(), "-o".into(), "ndjson".into()];
    if let Some(dir) = app.credentials_dir() {
        options.extend(["--credentials-dir".into(), dir.into()]);
    }
    if app.printer.is_verbose() {
        options.push("-v".into());
    }
    Launcher {
        program: "/proc/self/exe".into(),
        options,
    }
}

async fn preview(app: &App) -> Result<Table> {
    let plan = Plan::new(&app.config, &app.config_file)?;
    let mut launcher = launcher(app, &app.config_file);
    launcher.options.extend(["--keyring".into(), app.keyring_dir().into()]);
    Ok(table(&plan, Book::look(&state(app)), launcher, app.printer.zone().clone()).await)
}

/// Makes a configuration the one that children read.
fn accept(app: &App, mut config: Config, copy: &Path) -> Result<Plan> {
    let plan = Plan::new(&config, &app.config_file)?;
    config.keyring = Some(app.keyring_of(&config)?);
    config.save(copy)?;
    Ok(plan)
}

async fn look_after(app: &App, args: AgentArgs) -> Result<Stopped> {
    // What is wrong with the configuration is said before anything is touched.
    let plan = Plan::new(&app.config, &app.config_file)?;
    let state = state(app);
    let (book, problem) = Book::open(&state)?;
    if let Some(error) = problem {
        app.tell(
            Severity::Warning,
            "agent.state.not_read",
            json!({"code": error.code().as_str(), "message": error.to_string(), "hint": error.hint_text()}),
        );
    }
    let copy = state.join("config.yaml");
    accept(app, app.config.clone(), &copy)?;
    let stop = App::stop()?;
    let (ask, mut reloads) = mpsc::unbounded_channel();
    let mut hangups = signal(SignalKind::hangup())
        .map_err(|error| Error::new(code::cli::INTERNAL, "follow signals").source(error))?;
    let _hangups = AbortOnDropHandle::new(tokio::spawn(async move {
        while hangups.recv().await.is_some() && ask.send(()).is_ok() {}
    }));

    let sink: Arc<dyn EventSink> = Arc::new(Relay(app.printer.clone()));
    let listen = args.listen.unwrap_or(plan.listen);
    let count = plan.targets.len();
    let reload = || accept(app, Config::load(&app.config_file, false)?, &copy);
    let supervisor = Supervisor::new(plan, book, launcher(app, &copy), &reload, sink);
    let pulse = Pulse::new();
    let served = serve(listen, supervisor.shown(), pulse.clone()).await?;
    app.tell(
        Severity::Notice,
        "agent.started",
        json!({"address": served.address.to_string(), "deployments": count, "state": state}),
    );
    let manager = Arc::new(Manager::of_process());
    manager.tell("READY=1");
    let _stopping = AbortOnDropHandle::new(tokio::spawn({
        let (drain, manager) = (stop.drain.clone(), manager.clone());
        async move {
            drain.cancelled().await;
            manager.tell("STOPPING=1");
        }
    }));
    let beat = || {
        pulse.beat();
        manager.tell("WATCHDOG=1");
    };
    Ok(supervisor.run(&stop, &mut reloads, beat).await)
}
