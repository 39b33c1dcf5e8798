//! The API server, and the part of it that is looked at.

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Config, Resource};

use crate::args::Scope;
use crate::error::{Error, Result};

/// A connection, as the kubeconfig says.
pub struct Session {
    /// The API server.
    pub client: Client,
    /// The namespace of what has no other.
    pub namespace: String,
    all: bool,
}

impl Session {
    /// Reads the kubeconfig as kubectl does.
    pub async fn open(scope: &Scope) -> Result<Session> {
        let options = KubeConfigOptions {
            context: scope.context.clone(),
            ..KubeConfigOptions::default()
        };
        let unreadable = |error: kube::config::KubeconfigError| Error::Config(error.to_string());
        let config = match &scope.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path).map_err(unreadable)?;
                Config::from_custom_kubeconfig(file, &options).await
            }
            None => Config::from_kubeconfig(&options).await,
        }
        .map_err(unreadable)?;
        let namespace = scope
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        Ok(Session {
            client: Client::try_from(config)?,
            namespace,
            all: scope.all_namespaces,
        })
    }

    /// The objects of a kind in the namespaces that are looked at.
    pub fn looked_at<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        if self.all {
            Api::all(self.client.clone())
        } else {
            self.here()
        }
    }

    /// The objects of a kind in one namespace.
    pub fn here<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The same of a kind that is known by its group and name only.
    pub fn looked_at_dynamic(&self, kind: &kube::core::ApiResource) -> Api<kube::core::DynamicObject> {
        if self.all {
            Api::all_with(self.client.clone(), kind)
        } else {
            Api::namespaced_with(self.client.clone(), &self.namespace, kind)
        }
    }
}
