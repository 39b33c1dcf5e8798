//! Credentials from a directory with one file for each word, as Kubernetes mounts a Secret.

use std::path::{Path, PathBuf};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, Result, future};

/// Reads `access-key-id`, `secret-access-key` and, when it is there, `session-token`, anew for every request.
#[derive(Debug)]
pub(super) struct CredentialsDir(PathBuf);

/// The files are replaced one by one: what two readings agree on belongs together.
const READINGS: u32 = 10;

type Words = (String, String, Option<String>);

impl CredentialsDir {
    pub(super) fn new(directory: PathBuf) -> CredentialsDir {
        CredentialsDir(directory)
    }
}

fn word(directory: &Path, name: &str) -> std::io::Result<String> {
    let path = directory.join(name);
    let text = std::fs::read_to_string(&path)
        .map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let word = text.trim();
    if word.is_empty() {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            format!("{} is empty", path.display()),
        ));
    }
    Ok(word.to_owned())
}

fn words(directory: &Path) -> std::io::Result<Words> {
    let token = match word(directory, "session-token") {
        Ok(token) => Some(token),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok((
        word(directory, "access-key-id")?,
        word(directory, "secret-access-key")?,
        token,
    ))
}

fn read(directory: &Path) -> std::io::Result<Words> {
    let mut before = words(directory)?;
    for _ in 0..READINGS {
        let now = words(directory)?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
    Err(std::io::Error::other("the files change all the time"))
}

impl ProvideCredentials for CredentialsDir {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let directory = self.0.clone();
        future::ProvideCredentials::new(async move {
            let words = tokio::task::spawn_blocking(move || read(&directory)).await;
            let (key, secret, token) = words
                .map_err(CredentialsError::unhandled)?
                .map_err(CredentialsError::provider_error)?;
            Result::Ok(Credentials::new(key, secret, token, None, "directory"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn read_again_when_they_change() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        let provider = CredentialsDir::new(directory.path().to_path_buf());
        assert!(provider.provide_credentials().await.is_err());
        write("access-key-id", "id\n");
        write("secret-access-key", "one\n");
        let first = provider.provide_credentials().await.unwrap();
        assert_eq!((first.access_key_id(), first.secret_access_key()), ("id", "one"));
        assert_eq!(first.session_token(), None);
        write("secret-access-key", "two");
        write("session-token", "token\n");
        let second = provider.provide_credentials().await.unwrap();
        assert_eq!(
            (second.secret_access_key(), second.session_token()),
            ("two", Some("token"))
        );
        write("access-key-id", "\n");
        assert!(provider.provide_credentials().await.is_err());
    }
}
