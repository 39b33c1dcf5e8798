//! An S3 server in a test's namespace: MinIO with the bucket `backups`.

use std::fs;
use std::time::Duration;

use super::forward::Forward;
use super::namespace::Namespace;
use super::node::image;
use crate::http;
use crate::place::tree;

const PATIENCE: Duration = Duration::from_mins(2);
/// What its manifest says.
const ACCESS_KEY: &str = "for-tests";
const SECRET_KEY: &str = "for-tests-only";
const PORT: u16 = 9000;

/// The server.
#[derive(Debug)]
pub struct Bucket {
    namespace: String,
}

impl Bucket {
    /// Starts one and waits until it answers.
    #[track_caller]
    pub fn start(namespace: &Namespace) -> Bucket {
        let path = tree("e2e/kubernetes/yaml/minio.yaml");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let manifest = text
            .replace("@namespace@", namespace.name())
            .replace("@scheme@", "HTTP")
            .replace(
                "localhost/minio:1",
                &image("HARDSTORAGE_E2E_MINIO_IMAGE", "localhost/minio:1"),
            );
        namespace.apply(&manifest);
        namespace.wait("deployment/minio", "condition=Available", PATIENCE);
        Bucket {
            namespace: namespace.name().to_owned(),
        }
    }

    /// The URL for pods, with a prefix in the bucket.
    pub fn url(&self, prefix: &str) -> String {
        Self::at(&format!("minio.{}.svc:{PORT}", self.namespace), prefix)
    }

    fn at(host: &str, prefix: &str) -> String {
        format!("s3://backups/{prefix}?region=us-east-1&endpoint=http://{host}&path_style=true")
    }

    /// A Secret with its keys, under the names that a Repository reads by default.
    pub fn secret(name: &str) -> String {
        format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: {name}}}, \
             stringData: {{access-key-id: {ACCESS_KEY}, secret-access-key: {SECRET_KEY}}}}}"
        )
    }

    /// Opens a way in from outside of the cluster.
    #[track_caller]
    pub fn outside(&self, namespace: &Namespace) -> (Forward, impl Fn(&str) -> String + use<>) {
        assert_eq!(namespace.name(), self.namespace);
        let forward = Forward::to(namespace, "minio", PORT);
        let address = forward.address();
        crate::until("MinIO answers from outside", PATIENCE, || {
            let (status, _) = http::get(address, "/minio/health/ready").ok()?;
            (status == 200).then_some(())
        });
        let host = address.to_string();
        (forward, move |prefix: &str| Self::at(&host, prefix))
    }

    /// The environment with its keys.
    pub fn environment() -> [(&'static str, &'static str); 2] {
        [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)]
    }
}
