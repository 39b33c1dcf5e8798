//! What is the matter with a Repository, and what to do about it, in a sentence each. Pure.

use hardstorage_crds::RepositoryStatus;
use kube::ResourceExt as _;

use super::Seen;
use crate::repository::access::kek;
use crate::repository::verdict::Verdict;

/// What is the matter, and what to do.
pub(super) fn of(seen: &Seen<'_>, before: &RepositoryStatus) -> String {
    let spec = &seen.repository.spec;
    let url = &spec.url;
    let ours = before.repository_id.clone().unwrap_or_default();
    let secret = kek(spec, &seen.repository.name_any())
        .map(|key| format!("key {} of Secret {}", key.key, key.secret))
        .unwrap_or_default();
    match seen.verdict {
        Verdict::Good => String::new(),
        Verdict::Looking => format!("looking at {url}"),
        Verdict::ClaimMissing(what) => format!("{what}; make it, or put it back from its volume"),
        Verdict::Unreachable(failure) | Verdict::CreationFailed(failure) => failure.text(),
        Verdict::MayCreate | Verdict::Creating => format!("creating a repository at {url}"),
        Verdict::NotFound => format!(
            "there is no repository at {url}, and none may be created; correct the url, or set creation to \
             CreateIfMissing and accessMode to ReadWrite"
        ),
        Verdict::Vanished => format!(
            "repository {ours} was at {url}, and nothing is there now; it is not created again: put the store back, or \
             delete this object and make it anew if the backups are really to be given up"
        ),
        Verdict::Replaced(found) => format!(
            "repository {ours} was at {url}, and {found} is there now; find out who replaced it; to use the new one, \
             delete this object and make it anew"
        ),
        Verdict::NotARepository(examples) => format!(
            "{url} holds other objects ({}); choose an empty prefix or directory",
            examples.join(", ")
        ),
        Verdict::DescriptorLost => format!(
            "{url} holds objects of a repository, and the one that describes it is gone; put the object HARDSTORAGE back \
             from a copy"
        ),
        Verdict::EncryptionMismatch { encrypted: true } => format!(
            "the repository at {url} is encrypted, and encryption.none is set; delete this object and make it anew with \
             its key"
        ),
        Verdict::EncryptionMismatch { encrypted: false } => format!(
            "the repository at {url} is not encrypted, and a key is asked for; use an empty place, or encryption.none"
        ),
        Verdict::KeyMissing(Some(why)) => format!("{secret} cannot be used: {why}"),
        Verdict::KeyMissing(None) => format!(
            "{secret} is not there; put it back from your copy: a key is never made for a repository that exists"
        ),
        Verdict::KeyMismatch { at_hand, wanted } => {
            format!("{secret} has the fingerprint {at_hand}, and the repository needs {wanted}; put the right one back")
        }
        Verdict::Unclear(word) => format!("the engine said {word:?}; upgrade the operator"),
    }
}
