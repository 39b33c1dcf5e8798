//! Fields of a Cluster that a restored one does not take over.

/// The fields, and why each is left out:
/// - `bootstrap`, `externalClusters`, `replica`: they would fetch the data from somewhere else, or follow another cluster;
/// - `backup`, `plugins`: the new cluster would archive into the old one's archive, over the old one's WAL;
/// - `certificates`: they are of the origin's names, and their Secrets may be gone; CloudNativePG makes its own;
/// - `superuserSecret`: it may be gone; CloudNativePG makes one when it is wanted.
pub(super) const FOREIGN: &[&str] = &[
    "bootstrap",
    "externalClusters",
    "replica",
    "backup",
    "plugins",
    "certificates",
    "superuserSecret",
];
