//! A child that is a script: what it says, how it ends, and how it is ended.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

/// The longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// Events, as they come.
#[derive(Default)]
pub(in crate::agent) struct Heard(Mutex<Vec<Event>>);

impl EventSink for Heard {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Heard {
    pub(in crate::agent) fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    pub(in crate::agent) fn named(&self, name: &str, deployment: &str) -> Vec<Event> {
        let of = |event: &Event| event.subject.deployment.as_ref().map(ToString::to_string);
        let mut all = self.all();
        all.retain(|event| event.name == name && of(event).as_deref() == Some(deployment));
        all
    }
}

/// A launcher of this script. It is run by a shell, so that no file is executed that is still open for writing elsewhere.
pub(in crate::agent) fn launcher(folder: &std::path::Path, script: &str) -> Launcher {
    let path = folder.join("stand-in");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Launcher {
        program: "/bin/sh".into(),
        options: vec![path.into()],
    }
}

struct Run {
    child: Child,
    ends: tokio::sync::mpsc::UnboundedReceiver<(u8, End)>,
    heard: Arc<Heard>,
    _folder: tempfile::TempDir,
}

impl Run {
    fn start(script: &str, limit: Option<Duration>) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let launcher = launcher(folder.path(), script);
        let (sender, ends) = tokio::sync::mpsc::unbounded_channel();
        let heard = Arc::new(Heard::default());
        let errand = Errand {
            key: 7,
            deployment: "db1".parse().unwrap(),
            words: vec!["backup".to_owned(), "db1".to_owned()],
            limit,
        };
        Run {
            child: launcher.start(errand, heard.clone(), sender),
            ends,
            heard,
            _folder: folder,
        }
    }

    async fn end(&mut self) -> End {
        let (key, end) = tokio::time::timeout(PATIENCE, self.ends.recv()).await.unwrap().unwrap();
        assert_eq!(key, 7);
        end
    }

    async fn hears(&self, name: &str) {
        let said = async {
            while !self.heard.all().iter().any(|event| event.name == name) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, said).await.unwrap();
    }
}

#[tokio::test]
async fn its_events_and_its_document_are_ours() {
    let script = r#"
        echo '{"severity":"info","name":"report.listening","subject":{},"body":{"address":"127.0.0.1:4711"}}' >&2
        echo '{"severity":"info","name":"backup.started","subject":{},"body":{"words":"'"$1 $3 $4"'"},"schema":"x"}' >&2
        echo '{"severity":"info","name":"backup.other","subject":{"deployment":"db2"},"body":null}' >&2
        echo 'free(): invalid pointer' >&2
        echo '{"schema":"pg_hardstorage.v1","command":"backup","result":{"backup_id":"x"}}'
    "#;
    let mut run = Run::start(script, None);
    let end = run.end().await;
    assert!(
        end.is_good() && !end.told && !end.hung && end.error.is_none(),
        "{end:?}"
    );
    assert_eq!(end.result["backup_id"], "x");
    assert_eq!(run.child.address(), Some("127.0.0.1:4711".parse().unwrap()));
    let heard = run.heard.all();
    assert_eq!(heard.len(), 3, "{heard:?}");
    assert_eq!(
        run.heard.named("backup.started", "db1")[0].body["words"],
        "--exit-with-parent backup db1"
    );
    assert_eq!(run.heard.named("backup.other", "db2").len(), 1);
    let said = &run.heard.named("agent.child.said", "db1")[0];
    assert_eq!(
        (said.severity, &said.body["message"]),
        (Severity::Warning, &json!("free(): invalid pointer"))
    );
}

#[tokio::test]
async fn a_failure_is_in_its_own_words_or_in_ours() {
    let error = r#"{"code":"unreachable.postgres","message":"m","hint":"h","exit_code":8}"#;
    let mut run = Run::start(&format!("echo '{{\"error\":{error}}}'; exit 8"), None);
    let end = run.end().await;
    assert_eq!(
        (end.exit, end.error.unwrap().code.as_str()),
        (Some(8), "unreachable.postgres")
    );
    let end = Run::start("exit 3", None).end().await;
    let error = end.error.unwrap();
    assert_eq!((end.exit, error.code.as_str()), (Some(3), "agent.child_failed"));
    let end = Run::start("kill -SEGV $$", None).end().await;
    let error = end.error.unwrap();
    assert!(end.exit.is_none() && error.message.contains("signal"), "{error:?}");

    let nothing = Launcher {
        program: "/no/such/program".into(),
        options: Vec::new(),
    };
    let (sender, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let errand = Errand {
        key: 1,
        deployment: "db1".parse().unwrap(),
        words: Vec::new(),
        limit: None,
    };
    let _child = nothing.start(errand, Arc::new(Heard::default()), sender);
    let (_, end) = ends.recv().await.unwrap();
    assert!(end.exit.is_none() && end.error.unwrap().message.contains("start"));
}

#[tokio::test]
async fn what_takes_too_long_is_ended_and_what_does_not_listen_is_killed() {
    let begun = Instant::now();
    let mut run = Run::start("exec sleep 600", Some(Duration::from_millis(100)));
    let end = run.end().await;
    assert!(end.hung && !end.told && end.exit.is_none(), "{end:?}");

    let deaf = "trap '' TERM; echo '{\"severity\":\"info\",\"name\":\"ready\"}' >&2; while :; do sleep 0.05; done";
    let mut run = Run::start(deaf, None);
    run.hears("ready").await;
    run.child.stop();
    assert!(
        tokio::time::timeout(Duration::from_millis(300), run.ends.recv())
            .await
            .is_err(),
        "it does not listen"
    );
    run.child.kill();
    let end = run.end().await;
    assert!(end.told && end.killed && end.exit.is_none(), "{end:?}");

    // One that drains is waited for.
    let drains = "trap 'sleep 0.3; exit 0' TERM; echo '{\"severity\":\"info\",\"name\":\"ready\"}' >&2; \
        while :; do sleep 0.05; done";
    let mut run = Run::start(drains, None);
    run.hears("ready").await;
    run.child.stop();
    let end = run.end().await;
    assert!(end.told && !end.killed && end.is_good(), "{end:?}");
    assert!(begun.elapsed() < PATIENCE);
}

#[tokio::test]
async fn who_inherits_a_pipe_of_it_does_not_keep_us() {
    let mut run = Run::start("sleep 60 & echo '{\"result\": {\"n\": 1}}'", None);
    let begun = Instant::now();
    assert!(run.end().await.is_good());
    assert!(begun.elapsed() < Duration::from_secs(20));
}
