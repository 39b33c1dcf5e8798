//! Codes of the repository format.

super::codes! {
    MISSING = "notfound.repo", 6, "There is no repository at this URL.", "correct the URL or mount its volume; a new one is made by `pg_hardstorage repo init URL`";
    EXISTS = "conflict.repo_exists", 7, "There is a repository at this URL already.", "use it as it is, or choose another URL";
    NEWER_FORMAT = "conflict.repo_newer_format", 7, "The repository needs a newer program.", "upgrade pg_hardstorage";
    NOT_CREATE_ONLY = "preflight.create_only_not_kept", 4, "The store lets two writers create the same object.", "use a store that keeps If-None-Match, or `repo init --single-writer`";
    KEY_MISSING = "auth.key_missing", 3, "The repository is encrypted and the key is not there.", "put kek.bin back into the keyring, or name the keyring that has it with --keyring";
    KEY_WRONG = "auth.key_wrong", 3, "The key does not open this repository.", "use the key that was exported when the repository was made";
    KEY_PERMISSIONS = "auth.key_permissions", 3, "The key file can be read by others.", "chmod 600 the key file";
    ENCRYPTION_MISMATCH = "conflict.encryption_mismatch", 7, "Repository and caller disagree about encryption.", "the repository's descriptor says whether it is encrypted; nothing was written";
    MANIFEST_CORRUPT = "verify.manifest_corrupt", 9, "A manifest's bytes or signature are not what they should be.", "run `pg_hardstorage repo check`; restore from another backup";
    SIGNER_UNKNOWN = "verify.signer_unknown", 9, "A manifest is signed by a key that the repository does not know.", "check who writes into this repository";
    OBJECT_CORRUPT = "verify.object_corrupt", 9, "A stored object is damaged or is not what its name says.", "`pg_hardstorage verify` tells what it hurts; restore from another backup, and take a new one: it stores damaged pages anew";
    PACK_MISSING = "verify.pack_missing", 9, "A pack that a backup needs is missing or short.", "restore from another backup and run `pg_hardstorage repo check`";
    BACKUP_MISSING = "notfound.backup", 6, "There is no such backup.", "`pg_hardstorage list DEPLOYMENT` shows what is there";
    BACKUP_VOID = "aborted.backup_void", 5, "The backup was declared void before it was committed.", "run the backup again";
    COMMIT_CONFLICT = "conflict.commit", 7, "Another object lies where this one should be committed.", "run `pg_hardstorage repo check`";
    DEPLOYMENT_MISSING = "notfound.deployment", 6, "The repository holds nothing of this deployment.", "`pg_hardstorage list` shows the deployments";
    SESSION_LOST = "aborted.session_lost", 5, "This process was silent so long that another ended its session.", "run the command again";
    SYSTEM_MISMATCH = "conflict.system_identifier", 7, "The server is another cluster than the one in the repository.", "check the connection; after pg_upgrade or initdb use --accept-new-system";
    SPLIT_BRAIN = "conflict.split_brain", 7, "The same WAL position holds other bytes than the archive.", "two servers write the same timeline: find out which one is alive before anything else";
    WAL_MISSING = "notfound.wal", 6, "A WAL segment is not in the repository.", "`pg_hardstorage wal audit` tells what is there";
    WAL_GAP = "verify.wal_gap", 9, "The archived WAL has a hole.", "take a new backup; recovery cannot pass the hole";
    HELD = "conflict.held", 7, "A hold protects this backup.", "release it with `pg_hardstorage hold --release`";
    STATE_RACE = "conflict.state_changed", 7, "Another process changed the backup's state at the same time.", "look at it again with `pg_hardstorage show`";
    NO_RANDOMNESS = "other.no_randomness", 1, "The operating system gives no random bytes.", "wait until the machine has booted, then run the command again";
    DESCRIPTOR_MISSING = "verify.descriptor_missing", 9, "There are objects of a repository here, but its descriptor is gone.", "put the object HARDSTORAGE back from a copy; never run `repo init` over it";
    NOT_EMPTY = "conflict.repo_not_empty", 7, "The place for the new repository holds other objects.", "choose an empty prefix or directory";
    CONFIG_RACE = "conflict.config_changed", 7, "Another process changed the repository's policy at the same time.", "look at the policy again, then repeat the change";
    CONFIG_INVALID = "usage.repo_policy", 2, "The policy holds a value that writers cannot work with.", "the message names the field and its range";
    OPENED_READ_ONLY = "conflict.opened_read_only", 7, "The repository was opened for reading and something tried to write.", "open it for writing, with the key and a program that knows all of its features";
    DATA_KEY_MISSING = "verify.data_key_missing", 9, "A deployment has objects but its data key is gone.", "put `keys/` back from a copy of the repository; without it nothing of the deployment can be read";
    KEY_MALFORMED = "auth.key_malformed", 3, "A key file does not hold what a key file holds.", "put the exported key file back";
    KEY_EXISTS = "conflict.key_exists", 7, "There is a key already.", "keys are never overwritten; use the one that is there, or another keyring";
    KEYRING_IO = "other.keyring_io", 1, "A file of the keyring cannot be read or written.", "check the owner and mode of the file and of the keyring's directory; run the command as the keyring's owner";
    SIGNING_KEY_MISSING = "auth.signing_key_missing", 3, "The private signing key is not in the keyring.", "put it back, or remove the public one so that a new pair is made";
    SIGNER_CONFLICT = "conflict.signer", 7, "Another public key lies under this signer's name.", "check who writes into this repository";
    FILE_SIZE = "verify.file_size", 9, "A file did not have the length that was announced.", "run the backup again: the stream was cut short or is not what it says";
    NAME_TOO_LONG = "preflight.name_too_long", 4, "A path in the data directory is longer than the repository can hold.", "the message tells which; PostgreSQL itself makes no such paths";
    BLOCK_SIZE = "preflight.block_size", 4, "The server's block size is not supported.", "PostgreSQL is built with blocks of 1 to 32 KiB";
}
