//! Something that answers where a server should: errors in every language, and no PostgreSQL at all. What PostgreSQL says
//! is shown and never read: the code of a refusal follows from SQLSTATE alone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use hardstorage_e2e::free_loopback;

use crate::site::Site;
use crate::verdict::{Cases, PASSWORD, all_refused};

const PORT: u16 = 5432;

/// A server that says the same to everybody.
fn server(answer: &[u8]) -> SocketAddr {
    let listener = TcpListener::bind((free_loopback(PORT), PORT)).unwrap();
    let address = listener.local_addr().unwrap();
    let answer = answer.to_owned();
    // It ends with the test's process.
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A client that went away is no failure of the server.
            serve(client, &answer).ok();
        }
    });
    address
}

fn serve(mut client: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    loop {
        let mut length = [0; 4];
        client.read_exact(&mut length)?;
        let mut rest = vec![0; (u32::from_be_bytes(length) as usize).saturating_sub(4)];
        client.read_exact(&mut rest)?;
        if rest == 80_877_103_u32.to_be_bytes() {
            // It would like TLS.
            client.write_all(b"N")?;
        } else {
            return client.write_all(answer);
        }
    }
}

/// An ErrorResponse. PostgreSQL translates the severity and the message.
fn error(severity: &str, sqlstate: &str, message: &[u8]) -> Vec<u8> {
    let mut fields = Vec::new();
    for (tag, text) in [
        (b'S', severity.as_bytes()),
        (b'V', b"FATAL"),
        (b'C', sqlstate.as_bytes()),
        (b'M', message),
    ] {
        fields.push(tag);
        fields.extend_from_slice(text);
        fields.push(0);
    }
    fields.push(0);
    let length = u32::try_from(fields.len() + 4).unwrap();
    [b"E", &length.to_be_bytes()[..], &fields].concat()
}

/// What each of the commands that need a server says.
fn ask(site: &Site, what: &str, answer: &[u8], exit: i32, code: &'static str, cases: &mut Cases) {
    let connection = format!("postgres://pgbackup:{PASSWORD}@{}/postgres", server(answer));
    let before = site.content();
    for words in [
        &["wal", "preflight", "db1", "--pg-connection", &connection][..],
        &["backup", "db1", "--pg-connection", &connection, "--repo", &site.repo],
    ] {
        let what = format!("{what}: {}", words[..2].join(" "));
        cases.push((what, site.product.run(words), exit, code));
    }
    assert_eq!(site.content(), before, "{what}: something was written");
}

#[test]
fn errors_in_any_language_are_told_apart() {
    let site = Site::new();
    let mut cases = Cases::new();
    for (sqlstate, exit, code) in [
        ("28P01", 3, "auth.postgres"),
        ("28000", 3, "auth.pg_hba"),
        ("42501", 3, "auth.role_no_replication"),
        ("53300", 4, "preflight.no_free_walsender"),
        ("57P03", 8, "unreachable.postgres"),
        ("3D000", 1, "replication.server_error"),
        ("XX000", 1, "replication.server_error"),
    ] {
        for (language, severity, message) in [
            ("English", "FATAL", "password authentication failed".as_bytes()),
            ("zh_CN", "致命错误", "用户 \"pgbackup\" Password 认证失败".as_bytes()),
            (
                "zh_CN in GBK",
                "\u{fffd}",
                &[0xd3, 0xc3, 0xbb, 0xa7, 0xc8, 0xcf, 0xd6, 0xa4],
            ),
            (
                "de_DE",
                "FATAL",
                "Passwort-Authentifizierung für Benutzer »pgbackup« fehlgeschlagen".as_bytes(),
            ),
        ] {
            let what = format!("{sqlstate} in {language}");
            ask(
                &site,
                &what,
                &error(severity, sqlstate, message),
                exit,
                code,
                &mut cases,
            );
        }
    }
    all_refused(&cases);
}

#[test]
fn no_postgresql_at_all() {
    let site = Site::new();
    let mut cases = Cases::new();
    for (what, answer, exit, code) in [
        ("hangs up", &b""[..], 8, "unreachable.postgres"),
        (
            "a web server",
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            1,
            "replication.protocol",
        ),
        ("noise", &[0x5a; 300], 1, "replication.protocol"),
        (
            "a message without an end",
            b"E\xff\xff\xff\xff",
            1,
            "replication.protocol",
        ),
        (
            "asks for a strange authentication",
            b"R\0\0\0\x08\0\0\0\x63",
            3,
            "auth.postgres",
        ),
        ("breaks off", b"R\0\0\0\x0c\0\0", 8, "unreachable.postgres"),
    ] {
        ask(&site, what, answer, exit, code, &mut cases);
    }
    all_refused(&cases);
}
