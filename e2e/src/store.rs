//! Real object stores on the loopback: MinIO (create-only holds under a race), moto (Object Lock), s3s-fs (checks
//! signatures and checksums; does not keep create-only under a race).

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::process::Command;
use std::time::Duration;

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
        let data = scratch.dir("data");
        let address = free_loopback(PORT);
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
        let server = Background::start(command, &scratch.path("server"));
        let mut store = ObjectStore {
            server,
            kind,
            address,
            scratch,
        };
        let socket = store.socket();
        store.server.until("the object store answers", PATIENCE, || match kind {
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
        store
    }

    fn socket(&self) -> SocketAddr {
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
        format!(
            "s3://{bucket_and_prefix}?region={REGION}&endpoint={}&path_style=true",
            self.endpoint()
        )
    }

    /// The environment with its credentials.
    pub fn credentials(&self) -> [(&'static str, &'static str); 2] {
        [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)]
    }
}
