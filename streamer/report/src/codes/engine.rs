//! Codes of the use cases: backup, WAL, restore, verify, retention.

super::codes! {
    PREFLIGHT = "preflight.failed", 4, "A condition for this command is not met.", "the findings tell what to change";
    SOURCE_IS_STANDBY = "preflight.source_is_standby", 4, "The server is a standby.", "connect to the primary (several hosts with target_session_attrs=primary find it), or use --allow-standby-source";
    NOT_CONTIGUOUS = "replication.not_contiguous", 1, "The WAL stream does not go on where it ended.", "the stream reconnects and asks again";
    BACKUP_RUNNING = "conflict.backup_in_progress", 7, "Another backup of this deployment is running.", "wait for it, or use --allow-concurrent";
    BACKUP_INCOMPLETE = "backup.incomplete", 1, "The WAL that makes the backup consistent could not be stored.", "check that the slot still has it, and run the backup again";
    COMMIT_UNCERTAIN = "backup.commit_uncertain", 1, "The backup may be committed, or may not be durable.", "`pg_hardstorage list` shows whether it is there; take another one when in doubt";
    PAGES_DAMAGED = "verify.pages_damaged", 9, "The server found damaged pages in its own files.", "the backup is kept and marked; check the disks of the server";
    TARGET_NOT_EMPTY = "conflict.target_not_empty", 7, "The restore target holds files already.", "choose an empty directory";
    TARGET_RUNNING = "conflict.target_running", 7, "A PostgreSQL server runs in the restore target.", "stop it, or choose another directory";
    TARGET_FOREIGN = "conflict.target_foreign_cluster", 7, "The restore target belongs to another cluster.", "choose another directory";
    TARGET_IN_REPO = "usage.target_in_repository", 2, "The restore target lies inside the repository.", "choose a directory outside the repository";
    TARGET_SPACE = "preflight.no_space", 4, "The restore target has too little space.", "free space, or choose another directory";
    TARGET_OWNER = "preflight.owner_unclear", 4, "It is not clear who should own the restored files.", "name the owner with --owner USER";
    UNREACHABLE = "conflict.target_unreachable", 7, "The recovery target cannot be reached with what is in the repository.", "the message tells which moments can be reached";
    BEFORE_BACKUP = "notfound.backup_before_target", 6, "No backup ends before the recovery target.", "`pg_hardstorage list` shows the earliest backup";
    FILE_CORRUPT = "verify.file_corrupt", 9, "A restored file does not match PostgreSQL's own manifest.", "restore from another backup, and run `pg_hardstorage verify`";
    RESTORE_TEST = "verify.restore_failed", 9, "The restored copy did not start or did not answer.", "the message holds PostgreSQL's own words";
    RECOVERY = "restore.recovery_failed", 1, "PostgreSQL could not recover the restored copy.", "the message holds PostgreSQL's own words; a library that it lacks comes with the image of the origin";
    TARGET_NOT_REACHED = "conflict.target_not_reached", 7, "Recovery ended before its target.", "choose an earlier target; `pg_hardstorage wal audit` tells whether the archive has a hole";
    PROGRAMS = "notfound.postgres_programs", 6, "PostgreSQL's own programs were not found.", "name their directory with --pg-bin";
}
