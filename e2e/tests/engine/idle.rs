//! Quiet times: an idle primary is healthy for ever, and a quiet moment can be recovered to.

use std::time::Duration;

use hardstorage_e2e::{Cluster, Ledger};

use crate::site::{Site, step};

/// Every timeout here is shorter than the silence. The second half needs the stream's own word that nothing followed,
/// which it writes each half minute: this is the one slow test.
#[test]
fn idle_primary_is_healthy_and_its_quiet_moments_are_recoverable() {
    let source = Cluster::builder(18).set("wal_sender_timeout", "2s").start();
    let site = Site::new();
    Ledger::create(&source);
    step("stream with timeouts of two and three seconds");
    let timeouts = ["--receive-timeout", "3s", "--status-interval", "1s"];
    let mut stream = site.stream("stream", &source.connection(), &timeouts);
    site.backup(&source);
    let wanted = Ledger::add(&source, "the last words", 100);
    stream.until_durable(&source);
    let moment = source.value(
        r#"SELECT to_char((clock_timestamp() + interval '20 s') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"#,
    );

    step("wait until a moment without commits is covered");
    // To the second, with the same number of digits: comparable as text.
    let second = |text: &str| text.chars().take(19).collect::<String>();
    let status = stream.until_within("the quiet moment is recoverable", Duration::from_secs(100), |status| {
        let until = status["recoverable_to"].as_str();
        until.is_some_and(|until| second(until) > second(&moment))
    });
    assert_eq!(status["phase"], "streaming", "{status}");
    stream.never_broke();

    step("restore to that moment");
    assert_eq!(site.paused("quiet", &["--to", &moment]), wanted);

    step("the future is not covered");
    let refused = site.refused(
        "future",
        &["--to", "2100-01-01T00:00:00Z"],
        7,
        "conflict.target_unreachable",
    );
    assert!(refused.stderr.contains("can be reached"), "{refused}");
    stream.stop();
}
