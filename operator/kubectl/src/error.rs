//! Errors of the plugin: what the API server says, and what a person can do about it.

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum Error {
    /// The kubeconfig.
    Config(String),
    /// The API server.
    Kube(Box<kube::Error>),
    /// What was asked for is not there.
    NotFound(String),
    /// A run that was waited for failed: what its object says, and its hint.
    Failed(String, Option<String>),
    /// The terminal, or the log of a pod.
    Io(std::io::Error),
    /// Something cannot be written as JSON.
    Json(serde_json::Error),
}

/// The outcome of a command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Config(what) => write!(f, "the kubeconfig: {what}"),
            Error::Kube(error) => match error.as_ref() {
                kube::Error::Api(status) => write!(f, "{}", status.message),
                other => write!(f, "the API server: {other}"),
            },
            Error::NotFound(what) | Error::Failed(what, _) => write!(f, "{what}"),
            Error::Io(error) => write!(f, "{error}"),
            Error::Json(error) => write!(f, "JSON: {error}"),
        }
    }
}

impl Error {
    /// What a person can do.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Error::Config(_) => Some("name one with --kubeconfig and --context"),
            Error::Kube(error) => match error.as_ref() {
                kube::Error::Api(status) if status.code == 403 => Some(
                    "ask for the role edit or view in this namespace: both hold the rights on objects of hardstorage.dev",
                ),
                kube::Error::Api(status) if status.code == 404 => {
                    Some("install pg_hardstorage first: its definitions are not there")
                }
                _ => None,
            },
            Error::NotFound(_) => Some("kubectl hardstorage status -A lists what there is"),
            Error::Failed(_, hint) => hint.as_deref(),
            Error::Io(_) | Error::Json(_) => None,
        }
    }

    /// The exit code: 6 for what is not there, as the engine's.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::NotFound(_) => 6,
            _ => 1,
        }
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Error {
        Error::Kube(Box::new(error))
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        Error::Io(error)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Error {
        Error::Json(error)
    }
}
