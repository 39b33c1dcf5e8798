//! The supervisor with a script in place of this program: it notes what it is called with, and behaves as its files say.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use hardstorage_report::{Error, code};

use super::hear::outcome;
use super::*;
use crate::agent::child::tests::{Heard, launcher};
use crate::config::Config;

const PATIENCE: Duration = Duration::from_secs(30);

/// `list` finds no backup until one was made. A backup hangs where a file `hangs-NAME` is, and fails where `fails-NAME`
/// is. A stream holds a place that only one may hold.
const SCRIPT: &str = r#"
    cd "$(dirname "$0")"; shift 2
    test "$1" = wal && test -f "deaf-$3" && trap '' TERM
    test "$1" = wal && test ! -f "deaf-$3" && trap 'echo "$3" >>drained; rmdir "held-$3"; exit 0' TERM
    echo "$@" >>calls
    now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
    case "$1" in
    list)
        test -f "made-$2" && backups='{"started_at":"'$(cat "made-$2")'","stopped_at":"'$(cat "made-$2")'"}'
        echo '{"result":{"backups":['"$backups"']}}' ;;
    backup)
        test -f "hangs-$2" && exec sleep 600
        test -f "fails-$2" && { echo '{"error":{"code":"unreachable.x","message":"m","hint":"h","exit_code":8}}'; exit 8; }
        echo "$now" >"made-$2" ; echo '{"result":{"backup_id":"x"}}' ;;
    wal)
        mkdir "held-$3" || { echo "$3" >>twice; exit 7; }
        test -f "breaks-$3" && { rm "breaks-$3"; rmdir "held-$3"; exit 1; }
        while :; do sleep 0.02; done ;;
    esac
"#;

struct World {
    folder: tempfile::TempDir,
    heard: Arc<Heard>,
    config: Arc<Mutex<String>>,
    /// A second signal follows the first.
    impatient: bool,
}

impl World {
    fn new(config: &str) -> World {
        World {
            folder: tempfile::tempdir().unwrap(),
            heard: Arc::new(Heard::default()),
            config: Arc::new(Mutex::new(config.to_owned())),
            impatient: false,
        }
    }

    fn put(&self, name: &str) {
        fs::write(self.folder.path().join(name), "").unwrap();
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn calls(&self, line: &str) -> usize {
        self.lines("calls").iter().filter(|call| call.starts_with(line)).count()
    }

    async fn until(&self, what: &str, is: impl Fn() -> bool) {
        let waited = async {
            while !is() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let done = tokio::time::timeout(PATIENCE, waited).await;
        assert!(
            done.is_ok(),
            "{what}\n{:#?}\n{:#?}",
            self.lines("calls"),
            self.heard.all()
        );
    }

    /// Runs the supervisor beside a story, and stops it after.
    async fn live(&self, story: impl AsyncFn(&mpsc::UnboundedSender<()>)) -> Stopped {
        let read = || {
            let text = self.config.lock().unwrap().clone();
            let file = self.folder.path().join("config.yaml");
            fs::write(&file, text).unwrap();
            let config = Config::load(&file, true)?;
            Plan::new(&config, Path::new("config.yaml"))
        };
        let (book, _) = Book::open(&self.folder.path().join("state")).unwrap();
        let launcher = launcher(self.folder.path(), SCRIPT);
        let supervisor = Supervisor::new(read().unwrap(), book, launcher, &read, self.heard.clone());
        let stop = Stop::default();
        let (ask, mut reloads) = mpsc::unbounded_channel();
        let (stopped, ()) = tokio::join!(supervisor.run(&stop, &mut reloads, || {}), async {
            story(&ask).await;
            stop.drain.cancel();
            if self.impatient {
                self.until("who listens has ended", || self.lines("drained").len() == 1)
                    .await;
                stop.kill.cancel();
            }
        });
        stopped
    }
}

fn config(names: &[&str], more: &str) -> String {
    let entry = |name: &&str| format!("  {name}: {{pg_connection: 'host=h user=u', repo: 'file:///r'}}\n");
    let entries: String = names.iter().map(entry).collect();
    format!("{more}\ndeployments:\n{entries}")
}

#[tokio::test]
async fn a_hung_deployment_holds_up_no_other_and_its_limit_ends_it() {
    let world = World::new(&config(
        &["db1", "db2", "db3"],
        "agent: {max_concurrent: 2, limits: {backup: 2s}}",
    ));
    world.put("hangs-db1");
    let stopped = world
        .live(async |_| {
            for name in ["db2", "db3"] {
                world
                    .until("the others have backups, and rotate after them", || {
                        world.calls(&format!("rotate {name} --apply")) == 1
                    })
                    .await;
            }
            world
                .until("the hung one is ended", || {
                    !world.heard.named("agent.task.failed", "db1").is_empty()
                })
                .await;
            let failed = world.heard.named("agent.task.failed", "db1").remove(0);
            assert_eq!(
                (&failed.body["outcome"], &failed.body["task"]),
                (&json!("hung"), &json!("backup"))
            );
            assert!(failed.body["again_at"].is_string(), "{failed:?}");
            for name in ["db1", "db2", "db3"] {
                assert_eq!(world.calls(&format!("wal stream {name} --wait")), 1);
            }
        })
        .await;
    assert!(stopped.clean_stop, "{stopped:?}");
    let mut drained = world.lines("drained");
    drained.sort();
    assert_eq!(drained, ["db1", "db2", "db3"], "every stream was asked to end, and did");
    // Rotations and backups once each: nothing ran twice for one reason.
    for call in ["backup db1", "backup db2", "backup db3", "rotate db2", "rotate db3"] {
        assert_eq!(world.calls(call), 1, "{call}");
    }
    assert_eq!(
        world.calls("rotate db1") + world.calls("verify") + world.calls("repo check"),
        0
    );

    // The next agent remembers: the backups of the others are not taken again, and the hung one waits for its pause.
    let looks = world.calls("list db1");
    world
        .live(async |_| {
            world
                .until("it streams again", || world.calls("wal stream db1") == 2)
                .await;
            world.until("it has looked", || world.calls("list db1") > looks).await;
        })
        .await;
    assert_eq!(world.calls("backup"), 3);
}

#[tokio::test]
async fn a_run_that_the_stop_interrupts_is_owed() {
    let world = World::new(&config(&["db1"], "agent: {spread: 0s}"));
    world.put("hangs-db1");
    let stopped = world
        .live(async |_| world.until("it runs", || world.calls("backup db1") == 1).await)
        .await;
    assert!(stopped.clean_stop);
    let failed = world.heard.named("agent.task.failed", "db1").remove(0);
    assert_eq!(
        (failed.severity, &failed.body["outcome"]),
        (Severity::Notice, &json!("stopped"))
    );
    fs::remove_file(world.folder.path().join("hangs-db1")).unwrap();
    world
        .live(async |_| world.until("it is made up", || world.calls("rotate db1") == 1).await)
        .await;
    assert_eq!(world.calls("backup db1"), 2);
}

#[tokio::test]
async fn a_stream_comes_back_and_is_never_there_twice() {
    let world = World::new(&config(&["db1"], "schedule: {backup: off, check: off}"));
    world.put("breaks-db1");
    world
        .live(async |_| {
            world
                .until("it is started again", || world.calls("wal stream db1") == 2)
                .await;
            let ended = world.heard.named("agent.stream.ended", "db1").remove(0);
            assert_eq!(
                (&ended.body["exit_code"], &ended.body["again_in_seconds"]),
                (&json!(1), &json!(1))
            );
        })
        .await;
    assert_eq!((world.lines("twice").len(), world.lines("drained").len()), (0, 1));
}

#[tokio::test]
async fn a_new_configuration_starts_stops_and_changes_and_a_bad_one_does_nothing() {
    let off = "schedule: {backup: off, check: off}";
    let world = World::new(&config(&["db1", "db2"], off));
    world
        .live(async |ask| {
            world.until("both stream", || world.calls("wal stream") == 2).await;
            *world.config.lock().unwrap() = config(&["db2", "db3"], "schedule: {bakup: off}");
            ask.send(()).unwrap();
            world
                .until("it is refused", || {
                    world
                        .heard
                        .all()
                        .iter()
                        .any(|event| event.name == "agent.config.refused")
                })
                .await;
            assert_eq!((world.calls("wal stream"), world.lines("drained").len()), (2, 0));

            let text = config(&["db2", "db3"], off).replace("'file:///r'}\n  db3", "'file:///other'}\n  db3");
            *world.config.lock().unwrap() = text;
            ask.send(()).unwrap();
            world
                .until("db1 ends", || world.lines("drained").contains(&"db1".to_owned()))
                .await;
            world.until("db3 begins", || world.calls("wal stream db3") == 1).await;
            world
                .until("db2 begins anew", || world.calls("wal stream db2") == 2)
                .await;
        })
        .await;
    assert_eq!((world.calls("wal stream db1"), world.lines("twice").len()), (1, 0));
    let mut drained = world.lines("drained");
    drained.sort();
    assert_eq!(drained, ["db1", "db2", "db2", "db3"]);
}

#[tokio::test]
async fn who_does_not_listen_is_killed_and_it_is_said() {
    let mut world = World::new(&config(&["db1", "db2"], "schedule: {backup: off, check: off}"));
    world.impatient = true;
    world.put("deaf-db2");
    let stopped = world
        .live(async |_| world.until("both stream", || world.calls("wal stream") == 2).await)
        .await;
    assert!(!stopped.clean_stop, "{stopped:?}");
    assert!(stopped.killed.contains(&"db2".parse().unwrap()), "{stopped:?}");
}

#[test]
fn what_an_end_means() {
    let end = |exit: Option<u8>, code: Option<hardstorage_report::Code>| End {
        exit,
        error: code.map(|code| ErrorReport::from(&Error::new(code, "x"))),
        ..End::default()
    };
    assert_eq!(outcome(&end(Some(0), None)), Outcome::Succeeded);
    for exit in [2, 3, 4, 6, 7, 9] {
        assert_eq!(outcome(&end(Some(exit), None)), Outcome::Refused, "{exit}");
    }
    for exit in [Some(1), Some(5), Some(8), Some(101), None] {
        assert_eq!(outcome(&end(exit, None)), Outcome::Failed, "{exit:?}");
    }
    // Another backup ends by itself.
    assert_eq!(
        outcome(&end(Some(7), Some(code::engine::BACKUP_RUNNING))),
        Outcome::Failed
    );
    let mut told = end(None, None);
    told.told = true;
    assert_eq!(outcome(&told), Outcome::Stopped);
    // Done is done.
    told.exit = Some(0);
    assert_eq!(outcome(&told), Outcome::Succeeded);
}

#[test]
fn the_newest_backup_is_read_from_the_list() {
    let answer = |backups: serde_json::Value| End {
        exit: Some(0),
        result: json!({"backups": backups}),
        ..End::default()
    };
    assert_eq!(newest(&answer(json!([]))), Some(Newest::None));
    let one = |day: u8| json!({"started_at": format!("2026-11-{day}T02:00:00Z"), "stopped_at": format!("2026-11-{day}T03:00:00Z")});
    let mut broken = one(22);
    broken["problem"] = json!("unreadable");
    let found = newest(&answer(json!([one(20), one(21), broken, {"problem": "x"}]))).unwrap();
    let Newest::At { started, stopped } = found else {
        panic!("{found:?}")
    };
    assert_eq!(
        (started.to_string().as_str(), stopped.to_string().as_str()),
        ("2026-11-21T02:00:00Z", "2026-11-21T03:00:00Z")
    );
    let failed = |code: hardstorage_report::Code| End {
        exit: Some(code.info().exit),
        error: Some(ErrorReport::from(&Error::new(code, "x"))),
        ..End::default()
    };
    assert_eq!(
        newest(&failed(code::repository::DEPLOYMENT_MISSING)),
        Some(Newest::None)
    );
    assert_eq!(newest(&failed(code::storage::IO)), None);
}
