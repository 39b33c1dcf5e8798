//! Kubernetes for tests, from the programs that `e2e/kubernetes/build` brings.

mod api_server;

pub use api_server::ApiServer;
