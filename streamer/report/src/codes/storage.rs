//! Codes of the object stores.

super::codes! {
    UNREACHABLE = "unreachable.store", 8, "The object store does not answer.", "check the endpoint, the network and the mount";
    DENIED = "auth.store_denied", 3, "The object store refuses the credentials or the permission.", "check the credentials and the policy of the bucket, or the owner and mode of the directory";
    BUCKET = "notfound.bucket", 6, "The bucket or directory does not exist.", "correct the URL, mount the volume, or create the directory or bucket";
    OBJECT = "notfound.object", 6, "An object is not there.", "run `pg_hardstorage repo check`";
    ROOT_REPLACED = "storage.root_replaced", 1, "The directory of the repository was unmounted, moved, removed or replaced while it was in use.", "mount the volume or put the directory back, and start the command again; what was acknowledged lies in the directory that was opened";
    FULL = "storage.full", 1, "The store has no space left.", "free space or enlarge the volume; what was stored stays valid";
    IO = "storage.io", 1, "The store failed in a way that is not a refusal.", "the message names the object; run the command again";
    CORRUPT = "verify.transfer_corrupt", 9, "Bytes from the store do not match the length or checksum that it promised.", "run it again; if it stays, run `pg_hardstorage repo check`";
    READ_ONLY = "conflict.store_read_only", 7, "The store takes no writes.", "remount it read-write, or use credentials that may write";
}
