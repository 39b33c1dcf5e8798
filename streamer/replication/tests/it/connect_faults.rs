//! Servers that are none, that say nothing, or that speak another language.

use std::time::Duration;

use hardstorage_report::{Error, Retry, code::replication as codes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::fake::message;
use crate::login::{log_in, refused};

/// A listener that takes connections one after the other and lets `script` answer each.
async fn listen<F>(script: impl Fn(usize, TcpStream) -> F + Send + 'static) -> u16
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((stream, _)) = listener.accept().await else {
                return;
            };
            // The client may hang up at any moment; what it makes of it is what the test looks at.
            let _ = script(number, stream).await;
        }
    });
    port
}

/// Answers the request for TLS (eight bytes) with `answer`.
async fn answers_ssl_request(answer: &'static [u8], keywords: &str) -> (Error, u16) {
    let port = listen(move |_, mut stream| async move {
        stream.read_exact(&mut [0; 8]).await?;
        stream.write_all(answer).await?;
        // Everything that the client still says.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
    })
    .await;
    let conninfo = format!("host=127.0.0.1 port={port} user=u password=secret connect_timeout=20 {keywords}");
    (log_in(&conninfo).await.err().unwrap(), port)
}

/// CVE-2021-23222: somebody in the middle puts plain messages behind the `S`, hoping that they are taken for the server's.
#[tokio::test]
async fn plain_bytes_before_the_handshake_are_never_read_as_the_server() {
    let (error, _) = answers_ssl_request(b"SR\0\0\0\x08\0\0\0\0Z\0\0\0\x05I", "sslmode=require").await;
    assert!(error.is(codes::TLS), "{error:?}");
}

#[tokio::test]
async fn answers_to_the_request_for_tls() {
    let (error, port) = answers_ssl_request(b"N", "sslmode=require").await;
    assert!(
        error.is(codes::TLS) && error.to_string().contains(&port.to_string()),
        "{error:?}"
    );
    // Unauthenticated words are not shown.
    let (error, _) = answers_ssl_request(b"ESFATAL\0Mcall +1 555 0100\0\0", "sslmode=require").await;
    assert!(
        error.is(codes::UNREACHABLE) && !error.to_string().contains("555"),
        "{error:?}"
    );
    assert_eq!(error.retry_advice(), Retry::Later);
    let (error, _) = answers_ssl_request(b"HTTP/1.1 400 Bad Request\r\n", "sslmode=require").await;
    assert!(error.is(codes::PROTOCOL), "{error:?}");
}

#[tokio::test]
async fn something_else_listens_there() {
    let port = listen(|_, mut stream| async move {
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
    })
    .await;
    let error = log_in(&format!(
        "host=127.0.0.1 port={port} user=u sslmode=disable connect_timeout=20"
    ))
    .await
    .err()
    .unwrap();
    assert!(error.is(codes::PROTOCOL), "{error:?}");
}

/// The clock is the test's: it jumps as soon as everybody waits.
#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up() {
    let port = listen(|_, mut stream| async move {
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
        Ok(())
    })
    .await;
    for (keywords, limit) in [("connect_timeout=3", 3), ("", 60)] {
        for mode in ["disable", "require"] {
            let before = tokio::time::Instant::now();
            let conninfo = format!("hostaddr=127.0.0.1 port={port} user=u sslmode={mode} {keywords}");
            let error = refused(log_in(&conninfo).await, codes::UNREACHABLE, &conninfo);
            assert_eq!(error.retry_advice(), Retry::Now);
            assert_eq!(before.elapsed().as_secs(), Duration::from_secs(limit).as_secs());
        }
    }
}

fn refusal(sqlstate: &str, text: &str, routine: &str) -> Vec<u8> {
    let body = format!("S致命错误\0VFATAL\0C{sqlstate}\0M{text}\0Fauth.c\0L1\0R{routine}\0\0");
    message(b'E', body.as_bytes())
}

/// The words are of no consequence; SQLSTATE, moment and the server's function are.
#[tokio::test]
async fn refusals_in_another_language() {
    let ask = message(b'R', &[0, 0, 0, 3]);
    let cases = [
        (
            false,
            "28000",
            "没有用于主机的 pg_hba.conf 条目",
            "ClientAuthentication",
            codes::HBA,
            Retry::Never,
        ),
        (
            false,
            "28000",
            "用户 \"u\" Peer 认证失败",
            "auth_failed",
            codes::AUTH,
            Retry::Never,
        ),
        (
            true,
            "28000",
            "不允许角色登录",
            "InitializeSessionUserId",
            codes::AUTH,
            Retry::Never,
        ),
        (
            true,
            "28P01",
            "用户 \"u\" Password 认证失败",
            "auth_failed",
            codes::AUTH,
            Retry::Never,
        ),
        (true, "42501", "权限不够", "InitPostgres", codes::ROLE, Retry::Never),
        (
            true,
            "53300",
            "已保留的连接位置",
            "InitPostgres",
            codes::SENDERS_FULL,
            Retry::Later,
        ),
        (
            false,
            "53300",
            "对不起, 已经有太多的客户",
            "InitProcess",
            codes::SENDERS_FULL,
            Retry::Later,
        ),
        (
            false,
            "57P03",
            "数据库系统启动中",
            "ProcessStartupPacket",
            codes::UNREACHABLE,
            Retry::Later,
        ),
        (
            true,
            "3D000",
            "数据库 \"x\" 不存在",
            "InitPostgres",
            codes::SERVER,
            Retry::Never,
        ),
    ];
    for (asked, sqlstate, text, routine, code, retry) in cases {
        let answer = [
            if asked { ask.clone() } else { Vec::new() },
            refusal(sqlstate, text, routine),
        ]
        .concat();
        let port = listen(move |_, mut stream| {
            let answer = answer.clone();
            async move {
                stream.read_u32().await?;
                stream.write_all(&answer).await?;
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
            }
        })
        .await;
        let conninfo = format!("host=127.0.0.1 port={port} user=u password=secret sslmode=disable");
        let error = refused(log_in(&conninfo).await, code, text);
        assert_eq!(error.retry_advice(), retry, "{text}");
        assert!(error.to_string().contains(text), "the server's words stay: {error}");
    }
}

/// The other kind of connection is tried once, and only when nothing secret was said over the first.
#[tokio::test]
async fn the_other_way_is_tried_only_before_the_password() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    for (mode, asked, expected) in [
        ("disable", false, 1),
        ("allow", false, 2),
        ("allow", true, 1),
        // It has no TLS, so that the first way was the plain one already.
        ("prefer", false, 1),
        ("prefer", true, 1),
    ] {
        let seen = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&seen);
        let port = listen(move |_, mut stream| {
            counter.fetch_add(1, Ordering::SeqCst);
            async move {
                // A request for TLS is eight bytes long and is answered by one; everything else is a startup message.
                if stream.read_u32().await? == 8 {
                    stream.read_u32().await?;
                    stream.write_all(b"N").await?;
                    stream.read_u32().await?;
                }
                let ask = if asked {
                    message(b'R', &[0, 0, 0, 3])
                } else {
                    Vec::new()
                };
                let no = refusal(if asked { "28P01" } else { "28000" }, "不", "ClientAuthentication");
                stream.write_all(&[ask, no].concat()).await?;
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
            }
        })
        .await;
        let conninfo = format!("host=127.0.0.1 port={port} user=u password=secret sslmode={mode}");
        refused(
            log_in(&conninfo).await,
            if asked { codes::AUTH } else { codes::HBA },
            mode,
        );
        assert_eq!(seen.load(Ordering::SeqCst), expected, "{mode} {asked}");
    }
}
