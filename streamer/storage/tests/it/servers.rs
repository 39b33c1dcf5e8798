//! Object stores of this machine: started on a free port of loopback, awaited, and ended with the test.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::{Credentials as Keys, Region, RequestChecksumCalculation};
use hardstorage_storage::{Credentials, OpenOptions, RetryPolicy};
use tempfile::TempDir;

/// Any server may take so long on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

pub const KEY: &str = "hardstorage-test";
pub const SECRET: &str = "correct-horse-battery";
pub const BUCKET: &str = "repository";

fn cache() -> PathBuf {
    if let Some(cache) = std::env::var_os("HARDSTORAGE_CACHE") {
        return cache.into();
    }
    let everyone = PathBuf::from("/var/cache/pg_hardstorage");
    if everyone.is_dir() {
        return everyone;
    }
    let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    home.unwrap_or(everyone).join("pg_hardstorage")
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub struct Server {
    child: Child,
    pub port: u16,
    pub directory: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Server {
    async fn start(program: &str, arguments: impl Fn(&mut Command, u16, &Path)) -> Server {
        let path = cache().join(program);
        assert!(
            path.exists(),
            "{} is missing: run scripts/fetch-servers",
            path.display()
        );
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let port = free_port();
        let mut command = Command::new(&path);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", directory.path());
        arguments(&mut command, port, &data);
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut server = Server { child, port, directory };
        server.wait().await;
        server
    }

    pub async fn minio() -> Server {
        let server = Server::start("bin/minio", |command, port, data| {
            command
                .env("MINIO_ROOT_USER", KEY)
                .env("MINIO_ROOT_PASSWORD", SECRET)
                .env("MINIO_BROWSER", "off")
                .args(["server", "--quiet", "--address", &format!("127.0.0.1:{port}")])
                .arg(data);
        })
        .await;
        server.create_bucket().await;
        server
    }

    pub async fn moto() -> Server {
        let server = Server::start("moto/bin/moto_server", |command, port, _| {
            command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        })
        .await;
        server.create_bucket().await;
        server
    }

    pub async fn s3s_fs() -> Server {
        let server = Server::start("bin/s3s-fs", |command, port, data| {
            command
                .args([
                    "--host",
                    "127.0.0.1",
                    "--port",
                    &port.to_string(),
                    "--access-key",
                    KEY,
                    "--secret-key",
                    SECRET,
                ])
                .arg(data);
        })
        .await;
        server.create_bucket().await;
        server
    }

    /// Until any HTTP answer comes.
    async fn wait(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let client = self.client();
        loop {
            let log = || std::fs::read_to_string(self.directory.path().join("log")).unwrap();
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status}:\n{}", log());
            }
            match client.list_buckets().send().await {
                Ok(_) => return,
                Err(error) => assert!(
                    Instant::now() < deadline,
                    "no answer from the server: {error:?}\n{}",
                    std::fs::read_to_string(self.directory.path().join("log")).unwrap()
                ),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A client that owes nothing to the code under test.
    pub fn client(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(aws_sdk_s3::config::BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .credentials_provider(Keys::new(KEY, SECRET, None, None, "test"))
            .endpoint_url(format!("http://127.0.0.1:{}", self.port))
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .force_path_style(true);
        aws_sdk_s3::Client::from_conf(config.build())
    }

    async fn create_bucket(&self) {
        self.client().create_bucket().bucket(BUCKET).send().await.unwrap();
    }

    pub fn url(&self, rest: &str) -> String {
        url(self.address(), rest)
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }
}

/// `rest` begins with the bucket and may hold parameters.
pub fn url(address: SocketAddr, rest: &str) -> String {
    let separator = if rest.contains('?') { '&' } else { '?' };
    format!("s3://{rest}{separator}endpoint=http://{address}")
}

/// Credentials as files.
pub fn credentials(key: &str, secret: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("access-key-id"), key).unwrap();
    std::fs::write(directory.path().join("secret-access-key"), secret).unwrap();
    directory
}

/// Options with these credentials and pauses too short to wait for.
pub fn options(credentials: &TempDir) -> OpenOptions {
    OpenOptions {
        credentials: Credentials::Directory(credentials.path().to_path_buf()),
        retry: RetryPolicy {
            base: Duration::from_millis(5),
            ..RetryPolicy::default()
        },
        ..OpenOptions::default()
    }
}
