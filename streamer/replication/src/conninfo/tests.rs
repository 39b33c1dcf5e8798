//! Connection strings against libpq's documented behaviour.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use hardstorage_report::code;
use proptest::prelude::*;

use super::settings::{RootCert, SslMode};
use super::*;

fn parse(text: &str) -> ConnInfo {
    ConnInfo::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> Error {
    let error = ConnInfo::parse(text)
        .err()
        .unwrap_or_else(|| panic!("{text} is accepted"));
    assert!(error.is(code::usage::CONNINFO), "{text}: {error:?}");
    assert!(!error.hint_text().is_empty());
    error
}

fn environment(variables: &'static [(&str, &str)]) -> Environment {
    Environment::new(|name| {
        variables
            .iter()
            .find(|(variable, _)| *variable == name)
            .map(|(_, value)| (*value).to_owned())
    })
    .with_os_user("postgres")
}

fn settings(text: &str, variables: &'static [(&str, &str)]) -> Settings {
    parse(text)
        .settings(&environment(variables))
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Every keyword with its value, the password too, in the order of writing.
fn values(text: &str) -> String {
    let conninfo = parse(text);
    let mut all: Vec<String> = conninfo
        .values
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if let Some(password) = &conninfo.password {
        all.push(format!(
            "password={}",
            String::from_utf8(password.expose().to_vec()).unwrap()
        ));
    }
    all.join(" ")
}

#[test]
fn both_forms_as_libpq_reads_them() {
    for (text, expected) in [
        // The examples of libpq.sgml.
        ("postgresql://", ""),
        ("postgresql://localhost", "host=localhost"),
        ("postgresql://localhost:5433", "host=localhost port=5433"),
        ("postgresql://localhost/mydb", "dbname=mydb host=localhost"),
        ("postgresql://user@localhost", "host=localhost user=user"),
        (
            "postgresql://user:secret@localhost",
            "host=localhost user=user password=secret",
        ),
        (
            "postgresql://other@localhost/otherdb?connect_timeout=10&application_name=myapp",
            "application_name=myapp connect_timeout=10 dbname=otherdb host=localhost user=other",
        ),
        (
            "postgresql://host1:123,host2:456/somedb?target_session_attrs=any&application_name=myapp",
            "application_name=myapp dbname=somedb host=host1,host2 port=123,456 target_session_attrs=any",
        ),
        (
            "postgresql:///mydb?host=localhost&port=5433",
            "dbname=mydb host=localhost port=5433",
        ),
        (
            "postgresql://[2001:db8::1234]/database",
            "dbname=database host=2001:db8::1234",
        ),
        (
            "postgresql:///dbname?host=/var/lib/postgresql",
            "dbname=dbname host=/var/lib/postgresql",
        ),
        (
            "postgresql://%2Fvar%2Flib%2Fpostgresql/dbname",
            "dbname=dbname host=/var/lib/postgresql",
        ),
        (
            "postgresql://user@localhost:5433/mydb?options=-c%20geqo%3Doff",
            "dbname=mydb host=localhost options=-c geqo=off port=5433 user=user",
        ),
        // The cases of PostgreSQL's own test (src/interfaces/libpq/t/001_uri.pl).
        (
            "postgresql://uri-user:secret@host:12345/db",
            "dbname=db host=host port=12345 user=uri-user password=secret",
        ),
        (
            "postgresql://uri%2Duser:secret@host:12345/",
            "host=host port=12345 user=uri-user password=secret",
        ),
        (
            "postgresql://uri-user@host:12345?user=other-user",
            "host=host port=12345 user=other-user",
        ),
        ("postgresql://uri-user@host/?", "host=host user=uri-user"),
        ("postgresql://@host", "host=host"),
        ("postgresql://host:/", "host=host"),
        ("postgres://:12345/", "port=12345"),
        (
            "postgres://otheruser@?host=/no/such/dir",
            "host=/no/such/dir user=otheruser",
        ),
        (
            "postgres://otheruser@/?host=/no/such/dir&port=12345",
            "host=/no/such/dir port=12345 user=otheruser",
        ),
        (
            "postgres://otheruser@:12345/db?host=/no/such/dir",
            "dbname=db host=/no/such/dir port=12345 user=otheruser",
        ),
        ("postgres://:secret@host", "host=host password=secret"),
        ("postgresql://host?sslmode=require&", "host=host sslmode=require"),
        ("postgresql://host?ssl=true", "host=host sslmode=require"),
        ("postgresql://a:p%40ss%2Fw%3A%25@h", "host=h user=a password=p@ss/w:%"),
        ("postgresql://h1,[::1]:7,h3:8/db", "dbname=db host=h1,::1,h3 port=,7,8"),
        ("postgresql:// host/ db ", "dbname=db host=host"),
        // key=value.
        ("", ""),
        ("  host = localhost\tport=5432\n", "host=localhost port=5432"),
        ("password='two words'", "password=two words"),
        (r"password='it\'s' user=a\ b", r"user=a b password=it's"),
        (r"password=back\\slash", r"password=back\slash"),
        ("user=''", "user="),
        ("host=a host=b", "host=b"),
        ("dbname=x=y", "dbname=x=y"),
        ("host='a'port=1", "host=a port=1"),
        ("sslcrl='' service=", "service= sslcrl="),
    ] {
        assert_eq!(values(text), expected, "{text}");
    }
}

#[test]
fn what_cannot_be_read() {
    for text in [
        "postgres://host:abc/",
        "postgres://host:0/",
        "postgres://host:65536/",
        "postgres://[::1/",
        "postgres://[]/",
        "postgres://[::1]x/",
        "postgres://host?x",
        "postgres://host?user=a=b",
        "postgres://host?unknown=1",
        "postgres://%zz@host/",
        "postgres://%@host/",
        "postgres://%00@host/",
        "postgres://%ff@host/",
        "postgres://ho st/",
        "postgres:/host",
        "http://host/",
        "mydb",
        "host",
        "host=a mydb",
        "password='open",
        "unknown=1",
        "Host=a",
        "host=a,b port=1,2,3",
        "host=a,b hostaddr=127.0.0.1",
        "hostaddr=localhost",
        "port=x",
        "port=1,x",
        "sslmode=bogus",
        "sslmode=Require",
        "connect_timeout=soon",
        "target_session_attrs=master",
        "channel_binding=yes",
        "gssencmode=require",
        "load_balance_hosts=random",
        "min_protocol_version=3.2",
        "sslnegotiation=direct",
        "sslrootcert=system sslmode=require",
        "sslcertmode=require",
        "ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2",
        "service=mine",
        "sslpassword=x",
        "sslcrl=/x",
        "requirepeer=postgres",
        "require_auth=scram-sha-256",
        "scram_client_key=x",
        "host=a\0b",
    ] {
        refused(text);
    }
    assert!(refused("sslmod=require").hint_text().contains("sslmode"));
    assert!(refused("sslpassword=x").hint_text().contains("0600"));
    assert!(refused("sslmode=bogus").hint_text().contains("verify-full"));
}

#[test]
fn an_error_quotes_nothing_that_may_be_a_password() {
    for text in [
        "postgres://user:hun/ter2@host/db",
        "postgres://user:hunter2/@host",
        "postgres://user:%hunter2@host",
        "postgres://user:hunter2%zz@host",
        "postgres://user:a?b=hunter2/@host",
        "user=a password=x hunter2",
        "user=a password=x hunter2=1",
        "password='hunter2",
        "postgres://host?password=x&hunter2=1",
        "sslpassword=hunter2",
        "oauth_client_secret=hunter2",
    ] {
        let error = refused(text);
        let shown = format!("{error} {error:?} {}", error.hint_text());
        assert!(!shown.contains("hunter2") && !shown.contains("ter2"), "{text}: {shown}");
    }
}

#[test]
fn the_password_is_never_shown() {
    for text in [
        "postgres://u:hunter2@h:1/db",
        "host=h user=u password=hunter2",
        "postgres://:hunter2@h",
    ] {
        let mut conninfo = parse(text);
        let shown = format!(
            "{conninfo} {conninfo:?} {} {} {:?}",
            conninfo.redacted(),
            conninfo.without_password(),
            conninfo.settings(&environment(&[("PGPASSWORD", "hunter2")])).unwrap()
        );
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(conninfo.redacted().contains(":***@"));
        assert_eq!(conninfo.take_password().unwrap().expose(), b"hunter2");
        assert_eq!(conninfo.take_password(), None);
        assert!(!conninfo.redacted().contains("***"));
    }
    assert_eq!(
        parse("host=h1,h2 port=1,2 user='a b' dbname=d sslmode=require password=x").redacted(),
        "postgresql://a%20b:***@h1:1,h2:2/d?sslmode=require"
    );
    assert_eq!(
        parse("host=/tmp port=5433 user=u").without_password(),
        "postgresql://u@%2Ftmp:5433"
    );
}

/// Every variable of importance.
const ALL: &[(&str, &str)] = &[
    ("PGHOST", "db1,db2"),
    ("PGPORT", "6000"),
    ("PGUSER", "backup"),
    ("PGPASSWORD", "env"),
    ("PGDATABASE", "app"),
    ("PGSSLMODE", "verify-full"),
    ("PGSSLROOTCERT", "/ca.pem"),
    ("PGSSLCERT", "/c.pem"),
    ("PGSSLKEY", "/k.pem"),
    ("PGAPPNAME", "from env"),
    ("PGCONNECT_TIMEOUT", "3"),
    ("PGTARGETSESSIONATTRS", "primary"),
    ("PGCHANNELBINDING", "require"),
    ("PGOPTIONS", "-c a=b"),
    ("PGPASSFILE", "/pass"),
    ("HOME", "/home/pg"),
];

#[test]
fn keyword_then_variable_then_default() {
    let plain = settings("", &[]);
    assert_eq!(plain.user(), "postgres");
    assert_eq!(plain.dbname(), None);
    assert_eq!(plain.application_name, "pg_hardstorage");
    assert_eq!(plain.hosts().len(), 1);
    assert_eq!(plain.hosts()[0].port(), 5432);
    assert!(matches!(plain.hosts()[0].address(), Address::Unix(_)));
    assert_eq!(plain.tls.mode, SslMode::Prefer);
    assert_eq!(plain.tls.root, RootCert::None);
    assert_eq!(plain.connect_timeout, Some(Duration::from_mins(1)));
    assert_eq!(plain.target, TargetAttrs::Any);
    assert_eq!(plain.channel_binding, ChannelBinding::Prefer);

    let all = settings("", ALL);
    let hosts: Vec<String> = all.hosts().iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["db1:6000", "db2:6000"]);
    assert_eq!((all.user(), all.dbname()), ("backup", Some("app")));
    assert_eq!(all.password.as_ref().unwrap().expose(), b"env");
    assert_eq!(all.tls.mode, SslMode::VerifyFull);
    assert_eq!(all.tls.root, RootCert::File("/ca.pem".into()));
    assert_eq!(all.tls.certificate, Some("/c.pem".into()));
    assert_eq!(all.tls.key, Some("/k.pem".into()));
    assert_eq!(all.application_name, "from env");
    assert_eq!(all.connect_timeout, Some(Duration::from_secs(3)));
    assert_eq!(all.target, TargetAttrs::Primary);
    assert_eq!(all.channel_binding, ChannelBinding::Require);
    assert_eq!(all.options.as_deref(), Some("-c a=b"));
    assert_eq!(all.passfile, Some("/pass".into()));

    let own = settings(
        "host=h3 port=1 user=me password=mine dbname=d sslmode=disable application_name=x connect_timeout=0",
        ALL,
    );
    assert_eq!(own.hosts()[0].to_string(), "h3:1");
    assert_eq!(own.user(), "me");
    assert_eq!(own.password.unwrap().expose(), b"mine");
    assert_eq!(own.tls.mode, SslMode::Disable);
    assert_eq!(own.connect_timeout, None);

    let home = settings("", &[("HOME", "/home/pg")]);
    assert_eq!(home.passfile, Some("/home/pg/.pgpass".into()));
    assert_eq!(home.tls.root, RootCert::File("/home/pg/.postgresql/root.crt".into()));
    assert_eq!(home.tls.key, Some("/home/pg/.postgresql/postgresql.key".into()));
    assert_eq!(
        settings("sslcertmode=disable", &[("HOME", "/home/pg")]).tls.certificate,
        None
    );
    assert_eq!(settings("fallback_application_name=x", &[]).application_name, "x");
}

#[test]
fn an_empty_value_keeps_the_variable_away() {
    const VARIABLES: &[(&str, &str)] = &[("PGUSER", "env"), ("PGPASSWORD", "env"), ("PGHOST", "env")];
    let settings = settings("user='' password='' host=''", VARIABLES);
    assert_eq!(settings.user(), "postgres");
    assert!(settings.password.is_none());
    assert!(matches!(settings.hosts()[0].address(), Address::Unix(_)));
}

#[test]
fn variables_are_checked_too() {
    for variables in [
        &[("PGSSLMODE", "bogus")] as &'static [(&str, &str)],
        &[("PGPORT", "1,2")],
        &[("PGSERVICE", "mine")],
        &[("PGSSLCRL", "/x")],
        &[("PGREQUIREAUTH", "scram-sha-256")],
        &[("PGGSSENCMODE", "require")],
        &[("PGCONNECT_TIMEOUT", "x")],
    ] {
        let error = parse("host=h").settings(&environment(variables)).err();
        assert!(
            error.is_some_and(|error| error.is(code::usage::CONNINFO)),
            "{variables:?}"
        );
    }
    // A value in the string makes a broken variable harmless.
    settings(
        "sslmode=disable host=h port=1",
        &[("PGSSLMODE", "bogus"), ("PGPORT", "1,2")],
    );
    assert!(parse("").settings(&Environment::empty()).is_err(), "no user");
}

#[test]
fn hosts_side_by_side() {
    let shown = |text: &str| -> Vec<String> { settings(text, &[]).hosts().iter().map(ToString::to_string).collect() };
    assert_eq!(shown("host=a,b,c port=7"), ["a:7", "b:7", "c:7"]);
    assert_eq!(shown("host=a,b port=,7"), ["a:5432", "b:7"]);
    assert_eq!(shown("hostaddr=::1,127.0.0.1"), ["[::1]:5432", "127.0.0.1:5432"]);
    assert_eq!(shown("host=a hostaddr=10.0.0.1"), ["a (10.0.0.1):5432"]);
    assert_eq!(
        shown("host=a,/run/pg,@abs"),
        ["a:5432", "/run/pg/.s.PGSQL.5432", "@abs/.s.PGSQL.5432"]
    );
    assert_eq!(shown("postgres://[fe80::1]:7/"), ["[fe80::1]:7"]);
    let local = |text: &str| settings(text, &[]).hosts()[0].is_local();
    assert!(local("") && local("host=localhost") && local("host=127.3.2.1") && local("hostaddr=::1"));
    assert!(!local("host=db1") && !local("host=10.0.0.1"));
}

#[test]
fn a_keyword_can_be_added() {
    let conninfo = parse("postgres://u@h/db").with("application_name", "x y").unwrap();
    assert_eq!(
        conninfo.without_password(),
        "postgresql://u@h/db?application_name=x%20y"
    );
    assert!(conninfo.clone().with("sslmode", "bogus").is_err());
    assert!(conninfo.with("password", "x").is_err());
}

/// A connection string with values in it that are hard to quote.
fn some_conninfo() -> impl Strategy<Value = ConnInfo> {
    let text = "[ a-z0-9=&?@:/%,'\\\\äß*.\\[\\]-]{0,12}";
    let host = prop_oneof![
        "[a-z0-9.-]{1,8}",
        Just("::1".to_owned()),
        "/[a-z ]{0,8}",
        Just(String::new()),
        text
    ];
    let port = prop_oneof![Just(String::new()), (1u16..).prop_map(|port| port.to_string())];
    let pairs = proptest::collection::vec((host, port), 0..4);
    let rest = (
        proptest::option::of(text),
        proptest::option::of(text),
        proptest::option::of(text),
        proptest::option::of(text),
        any::<bool>(),
    );
    (pairs, rest).prop_filter_map(
        "hosts do not fit",
        |(pairs, (user, dbname, password, options, with_ports))| {
            let quote = |value: &str| format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
            let join = |of: fn(&(String, String)) -> &str| pairs.iter().map(of).collect::<Vec<_>>().join(",");
            let hosts = (!pairs.is_empty()).then(|| join(|pair| &pair.0));
            let ports = with_ports.then(|| join(|pair| &pair.1));
            let all = [
                ("host", hosts),
                ("port", ports),
                ("user", user),
                ("dbname", dbname),
                ("password", password),
                ("options", options),
            ];
            let written =
                |(name, value): (&str, Option<String>)| value.map(|value| format!("{name}={}", quote(&value)));
            let text = all.into_iter().filter_map(written).collect::<Vec<_>>().join(" ");
            ConnInfo::parse(&text).ok()
        },
    )
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "\\PC{0,60}") {
        let _ = ConnInfo::parse(&text);
    }

    #[test]
    fn any_uri_is_answered(text in "[a-z0-9:@/?&=%,\\[\\]. '\\\\]{0,60}") {
        for text in [format!("postgres://{text}"), text] {
            if let Ok(conninfo) = ConnInfo::parse(&text) {
                let _ = conninfo.settings(&environment(&[]));
            }
        }
    }

    #[test]
    fn what_is_written_is_read_back(conninfo in some_conninfo()) {
        let mut expected = conninfo.clone();
        expected.take_password();
        let written = conninfo.without_password();
        prop_assert_eq!(&ConnInfo::parse(&written).unwrap(), &expected, "{}", written);
        let shown = ConnInfo::parse(&conninfo.redacted()).unwrap();
        prop_assert_eq!(shown.has_password(), conninfo.has_password());
        prop_assert_eq!(shown.without_password(), written);
    }
}
