//! Kubernetes for tests, from the programs that `e2e/kubernetes/build` brings: an API server by itself, and a whole node with
//! our operator, databases, load and an object store on it.

mod api_server;
mod bucket;
mod database;
mod diagnosis;
mod forward;
mod namespace;
mod node;
mod operator;
mod restored;
mod writer;

pub use api_server::ApiServer;
pub use bucket::Bucket;
pub use database::Database;
pub use forward::Forward;
pub use namespace::{Namespace, condition, is, is_for, without_server_fields};
pub use node::Node;
pub use operator::{Configured, Operator};
pub use restored::{Outside, Restored};
pub use writer::Writer;
