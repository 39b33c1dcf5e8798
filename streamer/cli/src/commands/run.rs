//! A run that a scheduler may watch: it serves its report while it lasts, writes a termination message, and goes on
//! answering until the result was heard.

use std::future::Future;
use std::sync::Arc;

use hardstorage_report::{Error, Event, EventSink, Result, Severity, code};
use serde_json::json;

use crate::app::App;
use crate::args::RunArgs;
use crate::printer::{Printer, Report};
use crate::serve::{Live, serve};

/// Sends every event to the printer and to the report.
struct Tee {
    printer: Arc<Printer>,
    live: Live,
}

impl EventSink for Tee {
    fn emit(&self, event: Event) {
        self.live.emit(event.clone());
        self.printer.emit(event);
    }
}

/// What a run is given.
#[derive(Clone)]
pub(crate) struct Running {
    /// Its report.
    pub(crate) live: Live,
    /// Where its events go.
    pub(crate) sink: Arc<dyn EventSink>,
}

/// Runs a command, prints its result, and gives the exit code. `exit` may turn a good result into another exit code:
/// a backup of a damaged server is kept, and still not right.
pub(crate) async fn reported<R, F, W>(app: &App, name: &str, args: &RunArgs, work: W, exit: fn(&R) -> u8) -> u8
where
    R: Report,
    F: Future<Output = Result<R>>,
    W: FnOnce(Running) -> F,
{
    let live = Live::new(name, args.run_id.clone());
    let sink = Arc::new(Tee {
        printer: app.printer.clone(),
        live: live.clone(),
    });
    let served = match args.report_listen {
        Some(address) => serve(address, live.clone()).await.map(Some),
        None => Ok(None),
    };
    let (served, outcome) = match served {
        Ok(served) => {
            if let Some(served) = &served {
                let address = served.address.to_string();
                app.tell(Severity::Info, "report.listening", json!({"address": address}));
            }
            let running = Running {
                live: live.clone(),
                sink,
            };
            (served, work(running).await)
        }
        Err(error) => (None, Err(error)),
    };
    let code = match &outcome {
        Ok(result) => {
            let code = exit(result);
            live.finish(result.summary(), code == 0);
            if let Some(error) = result.failure() {
                live.fail(&error);
            }
            app.printer.result(name, result);
            code
        }
        Err(error) => {
            live.fail(error);
            app.printer.error(name, error);
            error.exit_code()
        }
    };
    if let Some(path) = &args.termination_file
        && let Err(error) = std::fs::write(path, live.termination_message())
    {
        // An event and no second document: the result has been printed.
        let error = Error::new(code::cli::IO, format!("write {}", path.display())).source(error);
        app.tell(
            Severity::Error,
            "report.termination_file_failed",
            json!({"code": error.code().as_str(), "message": error.to_string()}),
        );
    }
    if let Some(served) = served {
        if !args.report_linger.is_zero() {
            live.linger(args.report_linger).await;
        }
        served.end().await;
    }
    code
}

/// A result that is right means exit 0.
pub(crate) fn zero<R>(_: &R) -> u8 {
    0
}
