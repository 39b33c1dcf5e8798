//! An HTTP server that says exactly what a test wants said, including answers that no healthy server gives.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hardstorage_storage::{DynStore, OpenOptions, RetryPolicy, open};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::servers::{credentials, options, url};

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }

    /// `PUT /bucket/key?uploads` as `PUT uploads` and the like: enough to tell the operations apart.
    pub fn operation(&self) -> String {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let words: Vec<&str> = query
            .split('&')
            .map(|pair| pair.split('=').next().unwrap())
            .filter(|name| matches!(*name, "uploads" | "uploadId" | "partNumber" | "list-type"))
            .collect();
        format!("{} {}", self.method, words.join("+")).trim_end().to_owned()
    }
}

/// What comes back; without a body's length given, the right one is sent.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    promised: Option<usize>,
    hang_up: bool,
}

pub fn answer(status: u16) -> Answer {
    Answer {
        status,
        headers: Vec::new(),
        body: Vec::new(),
        promised: None,
        hang_up: false,
    }
}

pub fn error(status: u16, code: &str) -> Answer {
    answer(status).body(format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>scripted</Message></Error>"
    ))
}

/// The connection ends without a word.
pub fn hang_up() -> Answer {
    Answer {
        hang_up: true,
        ..answer(0)
    }
}

impl Answer {
    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Answer {
        self.body = body.into();
        self
    }

    /// Promises so many bytes, whatever is sent.
    pub fn promise(mut self, length: usize) -> Answer {
        self.promised = Some(length);
        self
    }
}

type Script = dyn Fn(&Request, usize) -> Answer + Send + Sync;

#[derive(Clone)]
pub struct Scripted {
    pub address: SocketAddr,
    log: Arc<Mutex<Vec<Request>>>,
    grown: Arc<tokio::sync::Notify>,
}

impl Scripted {
    /// The script sees each request and how many of its operation came before.
    pub async fn start(script: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Scripted {
            address: listener.local_addr().unwrap(),
            log: Arc::default(),
            grown: Arc::default(),
        };
        let (shared, script): (_, Arc<Script>) = (server.clone(), Arc::new(script));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(shared.clone().serve(stream, script.clone()));
            }
        });
        server
    }

    async fn serve(self, stream: TcpStream, script: Arc<Script>) {
        let mut stream = BufReader::new(stream);
        while let Some(request) = read(&mut stream).await {
            let before = {
                let mut log = self.log.lock().unwrap();
                let before = log
                    .iter()
                    .filter(|earlier| earlier.operation() == request.operation())
                    .count();
                log.push(request.clone());
                before
            };
            self.grown.notify_waiters();
            let answer = script(&request, before);
            if answer.hang_up {
                return;
            }
            let length = answer.promised.unwrap_or(answer.body.len());
            let mut head = format!("HTTP/1.1 {} Scripted\r\nContent-Length: {length}\r\n", answer.status);
            for (name, value) in &answer.headers {
                head.push_str(name);
                head.push_str(": ");
                head.push_str(value);
                head.push_str("\r\n");
            }
            head.push_str("\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            if request.method != "HEAD" {
                stream.write_all(&answer.body).await.unwrap();
            }
            stream.flush().await.unwrap();
            if answer.promised.is_some_and(|promised| promised != answer.body.len()) {
                return;
            }
        }
    }

    /// How often an operation was asked for.
    pub fn count(&self, operation: &str) -> usize {
        self.log
            .lock()
            .unwrap()
            .iter()
            .filter(|request| request.operation() == operation)
            .count()
    }

    /// The n-th request of an operation.
    pub fn request(&self, operation: &str, number: usize) -> Request {
        let log = self.log.lock().unwrap();
        log.iter()
            .filter(|request| request.operation() == operation)
            .nth(number)
            .unwrap()
            .clone()
    }

    /// Waits for a request of this operation.
    pub async fn asked(&self, operation: &str) {
        loop {
            let grown = self.grown.notified();
            if self.count(operation) > 0 {
                return;
            }
            grown.await;
        }
    }

    pub async fn store(&self) -> DynStore {
        self.store_with("bucket", |_| {}).await
    }

    pub async fn store_once(&self) -> DynStore {
        self.store_with("bucket", |options| options.retry = RetryPolicy::never())
            .await
    }

    pub async fn store_with(&self, rest: &str, change: impl FnOnce(&mut OpenOptions)) -> DynStore {
        let credentials = credentials("key", "secret");
        let mut options = options(&credentials);
        change(&mut options);
        // Read for every request: they have to outlive the store.
        let _ = credentials.keep();
        open(&url(self.address, rest), &options).await.unwrap()
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    if stream.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request {
        method,
        target,
        headers,
        body: Vec::new(),
    };
    if request.header("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
    }
    let length = request
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    request.body.resize(length, 0);
    stream.read_exact(&mut request.body).await.ok()?;
    Some(request)
}
