//! Real object stores on the loopback: MinIO (create-only holds under a race), moto (Object Lock), s3s-fs (checks
//! signatures and checksums; does not keep create-only under a race).

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::answer::run;
use crate::background::Background;
use crate::http;
use crate::place::{cached, free_loopback};
use crate::scratch::Scratch;

const PATIENCE: Duration = Duration::from_mins(1);
const PORT: u16 = 9000;
const REGION: &str = "us-east-1";
const ACCESS_KEY: &str = "hardstorage";
const SECRET_KEY: &str = "hardstorage-secret";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Minio,
    Moto,
    S3sFs,
}

/// A running S3 server.
#[derive(Debug)]
pub struct ObjectStore {
    /// First, so that it ends before its directory goes.
    server: Background,
    kind: Kind,
    address: Ipv4Addr,
    scratch: Scratch,
}

impl ObjectStore {
    /// MinIO.
    pub fn minio() -> ObjectStore {
        Self::start(Kind::Minio)
    }

    /// moto, which keeps everything in memory and looks at no signature.
    pub fn moto() -> ObjectStore {
        Self::start(Kind::Moto)
    }

    /// s3s-fs.
    pub fn s3s_fs() -> ObjectStore {
        Self::start(Kind::S3sFs)
    }

    fn start(kind: Kind) -> ObjectStore {
        let scratch = Scratch::new();
        scratch.dir("data");
        let address = free_loopback(PORT);
        let mut store = ObjectStore {
            server: Background::start(command(kind, address, &scratch), &scratch.path("server")),
            kind,
            address,
            scratch,
        };
        store.until_ready();
        store
    }

    /// Ends it as a power cut would, and starts it again over the same data after `pause`. moto forgets everything.
    pub fn cut(&mut self, pause: Duration) {
        self.server.kill();
        thread::sleep(pause);
        self.server = Background::start(
            command(self.kind, self.address, &self.scratch),
            &self.scratch.path("server"),
        );
        self.until_ready();
    }

    /// Stops or continues it (SIGSTOP, SIGCONT).
    pub fn signal(&self, signal: Signal) {
        let server = Pid::from_raw(i32::try_from(self.server.pid()).unwrap()).unwrap();
        kill_process(server, signal).unwrap();
    }

    fn until_ready(&mut self) {
        let (socket, kind) = (self.socket(), self.kind);
        self.server.until("the object store answers", PATIENCE, || match kind {
            Kind::Minio => http::get(socket, "/minio/health/ready")
                .ok()
                .filter(|(status, _)| *status == 200)
                .map(drop),
            Kind::Moto => http::get(socket, "/moto-api/")
                .ok()
                .filter(|(status, _)| *status == 200)
                .map(drop),
            Kind::S3sFs => TcpStream::connect(socket).ok().map(drop),
        });
    }

    /// Where it listens.
    pub fn socket(&self) -> SocketAddr {
        SocketAddrV4::new(self.address, PORT).into()
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.socket())
    }

    /// Makes a bucket.
    #[track_caller]
    pub fn bucket(&self, name: &str) {
        if self.kind == Kind::Moto {
            let mut put = Command::new("python3");
            put.args([
                "-c",
                "import sys, urllib.request as r; r.urlopen(r.Request(sys.argv[1], method='PUT'))",
            ]);
            put.arg(format!("{}/{name}", self.endpoint()));
            run(put, PATIENCE).ok();
        } else {
            // Both take a directory for a bucket, which saves signing a request here.
            fs::create_dir(self.scratch.path("data").join(name)).unwrap();
        }
    }

    /// The repository URL for a bucket (and a prefix in it).
    pub fn url(&self, bucket_and_prefix: &str) -> String {
        url_by(&self.endpoint(), bucket_and_prefix)
    }

    /// The environment with its credentials.
    pub fn credentials(&self) -> [(&'static str, &'static str); 2] {
        [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)]
    }
}

/// The repository URL for a bucket of a store that is reached by this endpoint, its own or another in front of it.
pub fn url_by(endpoint: &str, bucket_and_prefix: &str) -> String {
    format!("s3://{bucket_and_prefix}?region={REGION}&endpoint={endpoint}&path_style=true")
}

fn command(kind: Kind, address: Ipv4Addr, scratch: &Scratch) -> Command {
    let data = scratch.path("data");
    let socket = SocketAddrV4::new(address, PORT).to_string();
    let (program, script) = match kind {
        Kind::Minio => ("bin/minio", "fetch-servers minio"),
        Kind::Moto => ("moto/bin/moto_server", "fetch-servers moto"),
        Kind::S3sFs => ("bin/s3s-fs", "fetch-servers s3s-fs"),
    };
    let mut command = Command::new(cached(program, script));
    command.env("HOME", scratch.root());
    match kind {
        Kind::Minio => {
            command
                .env("MINIO_ROOT_USER", ACCESS_KEY)
                .env("MINIO_ROOT_PASSWORD", SECRET_KEY);
            command.env("MINIO_BROWSER", "off").env("MINIO_UPDATE", "off");
            command.args(["server", "--quiet", "--address", &socket]).arg(&data);
        }
        Kind::Moto => {
            command.args(["-H", &address.to_string(), "-p", &PORT.to_string()]);
        }
        Kind::S3sFs => {
            command.args(["--host", &address.to_string(), "--port", &PORT.to_string()]);
            command
                .args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY])
                .arg(&data);
        }
    }
    command
}
