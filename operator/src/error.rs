//! Errors of a reconcile. What a person can do something about is a condition; an error is what is tried again.

/// Why a reconcile did not come to its end.
#[derive(Debug)]
pub enum Error {
    /// The API server.
    Kube(kube::Error),
    /// An object lacks what the API server gives every object.
    Incomplete(&'static str),
    /// Something cannot be written as JSON.
    Json(serde_json::Error),
}

/// The outcome of a step.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Kube(error) => write!(f, "the API server: {error}"),
            Error::Incomplete(what) => write!(f, "an object has no {what}"),
            Error::Json(error) => write!(f, "JSON: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Kube(error) => Some(error),
            Error::Incomplete(_) => None,
            Error::Json(error) => Some(error),
        }
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Error {
        Error::Kube(error)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Error {
        Error::Json(error)
    }
}

impl Error {
    /// A word for metrics; there are only these.
    pub fn label(&self) -> &'static str {
        match self {
            Error::Kube(kube::Error::Api(status)) => match status.code {
                403 => "forbidden",
                404 => "not_found",
                409 => "conflict",
                422 => "invalid",
                _ => "api",
            },
            Error::Kube(_) => "transport",
            Error::Incomplete(_) => "incomplete",
            Error::Json(_) => "json",
        }
    }

    /// Whether the API server says that the object is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Kube(kube::Error::Api(status)) if status.code == 404)
    }

    /// Whether somebody else was faster.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Error::Kube(kube::Error::Api(status)) if status.code == 409)
    }

    /// Whether the API server refuses to make anything more in a namespace, because that is on its way out.
    pub fn is_namespace_going(&self) -> bool {
        let Error::Kube(kube::Error::Api(status)) = self else {
            return false;
        };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
    }

    /// What the API server has against an object, in its words: another try changes nothing, a person may. That somebody else
    /// was faster, or that it has too much to do, goes away by itself.
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Error::Kube(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 422) => Some(&status.message),
            _ => None,
        }
    }

    /// Whether the operator may not do it.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Error::Kube(kube::Error::Api(status)) if status.code == 403)
    }
}
