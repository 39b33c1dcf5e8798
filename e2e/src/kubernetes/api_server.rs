//! An API server by itself: etcd and kube-apiserver on an address of the loopback, ready in a few seconds. Definitions,
//! rules, defaults and what kubectl makes of them are exactly what they are in a cluster; nothing runs pods or Jobs.

use std::ffi::OsStr;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::answer::{Answer, run, until};
use crate::background::Background;
use crate::place::{cache_root, free_loopback};
use crate::scratch::{Scratch, give_away, unprivileged};

const PATIENCE: Duration = Duration::from_mins(2);
const PORT: u16 = 6443;
const TOKEN: &str = "admin-of-this-test";

/// A running API server.
#[derive(Debug)]
pub struct ApiServer {
    /// First, so that it ends before its store does.
    server: Background,
    _etcd: Background,
    address: Ipv4Addr,
    scratch: Scratch,
}

impl ApiServer {
    /// An empty one.
    pub fn start() -> ApiServer {
        let scratch = Scratch::new();
        let address = free_loopback(PORT);
        certificates(&scratch, address);
        write(
            &scratch,
            "tokens.csv",
            &format!("{TOKEN},admin,admin,\"system:masters\"\n"),
        );
        let kubeconfig = kubeconfig(&scratch, address);
        write(&scratch, "kubeconfig", &kubeconfig);
        let (client, peer) = (format!("http://{address}:2379"), format!("http://{address}:2380"));

        let mut etcd = unprivileged(program("etcd"));
        etcd.arg("--data-dir").arg(scratch.dir("etcd"));
        etcd.args(["--log-level", "warn", "--unsafe-no-fsync"]);
        etcd.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        etcd.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        etcd.args(["--initial-cluster", &format!("default={peer}")]);
        let etcd = Background::start(etcd, &scratch.path("etcd-log"));

        let mut server = unprivileged(program("kube-apiserver"));
        server.args(["--etcd-servers", &client]);
        server.args([
            "--bind-address",
            &address.to_string(),
            "--secure-port",
            &PORT.to_string(),
        ]);
        for (flag, file) in [
            ("--tls-cert-file", "server.crt"),
            ("--tls-private-key-file", "server.key"),
            ("--token-auth-file", "tokens.csv"),
            ("--service-account-key-file", "server.crt"),
            ("--service-account-signing-key-file", "server.key"),
        ] {
            server.arg(flag).arg(scratch.path(file));
        }
        server.args(["--service-account-issuer", "https://kubernetes.default.svc"]);
        server.args([
            "--service-cluster-ip-range",
            "198.18.64.0/24",
            "--authorization-mode",
            "RBAC",
        ]);
        // There is no address that a pod could reach it at.
        server.args(["--endpoint-reconciler-type", "none"]);
        let server = Background::start(server, &scratch.path("server-log"));

        let mut started = ApiServer {
            server,
            _etcd: etcd,
            address,
            scratch,
        };
        let home = started.scratch.root().to_owned();
        started
            .server
            .until("the API server has its default namespace", PATIENCE, || {
                let mut ask = kubectl(&home);
                ask.args(["get", "namespace", "default", "--request-timeout=5s"]);
                (run(ask, PATIENCE).code == Some(0)).then_some(())
            });
        started
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        url(self.address)
    }

    /// A kubeconfig with every right.
    pub fn kubeconfig(&self) -> PathBuf {
        self.scratch.path("kubeconfig")
    }

    /// A path that a test may use, removed with the server.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Runs kubectl to its end.
    #[track_caller]
    pub fn kubectl(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Answer {
        let mut command = kubectl(self.scratch.root());
        command.args(arguments);
        run(command, PATIENCE)
    }

    /// Installs definitions (a file or a directory) and waits until they are served.
    #[track_caller]
    pub fn define(&self, path: &Path) {
        self.kubectl([OsStr::new("apply"), OsStr::new("-f"), path.as_os_str()])
            .ok();
        self.established();
    }

    /// Waits until all definitions are served.
    #[track_caller]
    pub fn established(&self) {
        // For a moment a new definition's conditions are null, which kubectl calls an error instead of waiting.
        until("all definitions are served", Duration::from_mins(1), || {
            let asked = self.kubectl(["wait", "crd", "--all", "--for=condition=Established", "--timeout=20s"]);
            (asked.code == Some(0)).then_some(())
        });
    }
}

/// As ourselves and not as the user that servers run as: it reads files of the tree.
fn kubectl(home: &Path) -> Command {
    let mut command = Command::new(program("kubectl"));
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", home)
        .env("KUBECONFIG", home.join("kubeconfig"));
    command
}

fn program(name: &str) -> PathBuf {
    let path = cache_root().join("kubernetes/bin").join(name);
    assert!(path.exists(), "{} is missing: run e2e/kubernetes/build", path.display());
    path
}

fn url(address: Ipv4Addr) -> String {
    format!("https://{address}:{PORT}")
}

fn write(scratch: &Scratch, name: &str, text: &str) {
    let path = scratch.path(name);
    fs::write(&path, text).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    give_away(&path);
}

fn kubeconfig(scratch: &Scratch, address: Ipv4Addr) -> String {
    let authority = scratch.path("ca.crt");
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters: [{{name: test, cluster: {{server: '{}', certificate-authority: '{}'}}}}]\n\
         users: [{{name: admin, user: {{token: {TOKEN}}}}}]\n\
         contexts: [{{name: test, context: {{cluster: test, user: admin}}}}]\n",
        url(address),
        authority.display()
    )
}

/// An authority and a certificate that it signed: clients refuse a server that is its own authority.
fn certificates(scratch: &Scratch, address: Ipv4Addr) {
    let path = |name: &str| scratch.path(name).display().to_string();
    let new = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-noenc",
        "-days",
        "2",
    ];
    let mut authority = Command::new("openssl");
    authority.args(new).args(["-subj", "/CN=authority of a test"]);
    authority.args(["-keyout", &path("ca.key"), "-out", &path("ca.crt")]);
    run(authority, PATIENCE).ok();
    let mut server = Command::new("openssl");
    server.args(new).args(["-subj", "/CN=kube-apiserver"]);
    server.args(["-CA", &path("ca.crt"), "-CAkey", &path("ca.key")]);
    server.args(["-addext", &format!("subjectAltName=IP:{address}")]);
    server.args([
        "-addext",
        "extendedKeyUsage=serverAuth",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]);
    server.args(["-keyout", &path("server.key"), "-out", &path("server.crt")]);
    run(server, PATIENCE).ok();
    for name in ["ca.crt", "server.key", "server.crt"] {
        give_away(&scratch.path(name));
    }
}
