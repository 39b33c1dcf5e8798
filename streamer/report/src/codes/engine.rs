//! Codes of the use cases: backup, WAL, restore, verify, retention.

super::codes! {
    PREFLIGHT = "preflight.failed", 4, "A condition for this command is not met.", "the findings tell what to change";
    SOURCE_IS_STANDBY = "preflight.source_is_standby", 4, "The server is a standby.", "connect to the primary (several hosts with target_session_attrs=primary find it), or use --allow-standby-source";
    SYNCHRONOUS_REMOTE_APPLY = "preflight.synchronous_remote_apply", 4, "Commits would wait for WAL to be replayed where nothing is ever replayed.", "ALTER SYSTEM SET synchronous_commit = 'on'; SELECT pg_reload_conf()";
    PATRONI_UNREACHABLE = "unreachable.patroni", 8, "Patroni does not answer, so that it may not know the slot.", "check the addresses and the network; the stream goes on and asks again, but Patroni drops a slot that it does not know";
    PATRONI_AUTH = "auth.patroni", 3, "Patroni's REST API refuses user or password, or cannot be trusted.", "check user, password file and the authority's file; the stream goes on, but Patroni drops a slot that it does not know";
    PATRONI_FOREIGN = "notfound.patroni", 6, "What answers is not Patroni.", "name Patroni's REST API, for example http://192.0.2.10:8008; the stream goes on, but Patroni drops a slot that it does not know";
    PATRONI_SLOT = "conflict.patroni_slot", 7, "Patroni has something else under the slot's name.", "choose another name with --slot, or let Patroni have it with `type: physical` and nothing else; nothing was changed there";
    PATRONI_SLOTS_OFF = "preflight.patroni_slots_off", 4, "Patroni is told to look after no slots.", "set postgresql.use_slots: true with `patronictl edit-config`; until then the slot does not outlive a failover";
    NOT_CONTIGUOUS = "replication.not_contiguous", 1, "The WAL stream does not go on where it ended.", "the stream reconnects and asks again";
    WAL_FILE = "verify.wal_file", 9, "A file of pg_wal is not what its name says.", "nothing was stored; `pg_waldump` shows what the file holds";
    WAL_UNFINISHED = "preflight.wal_unfinished", 4, "A WAL segment is not complete yet.", "nothing was stored; PostgreSQL hands a segment over when it is complete, and again when that failed";
    WAL_OWNER = "preflight.wal_owner_unclear", 4, "It is not clear which cluster a file of pg_wal belongs to.", "give the path as PostgreSQL's %p does, below the data directory: its global/pg_control tells the cluster";
    BACKUP_RUNNING = "conflict.backup_in_progress", 7, "Another backup of this deployment is running.", "wait for it, or use --allow-concurrent";
    BACKUP_INCOMPLETE = "backup.incomplete", 1, "The WAL that makes the backup consistent could not be stored.", "check that the slot still has it, and run the backup again";
    COMMIT_UNCERTAIN = "backup.commit_uncertain", 1, "The backup may be committed, or may not be durable.", "`pg_hardstorage list` shows whether it is there; take another one when in doubt";
    PAGES_DAMAGED = "verify.pages_damaged", 9, "The server found damaged pages in its own files.", "the backup is kept and marked; check the disks of the server";
    TARGET_NOT_EMPTY = "conflict.target_not_empty", 7, "The restore target holds files already.", "choose an empty directory";
    TARGET_RUNNING = "conflict.target_running", 7, "A PostgreSQL server runs in the restore target.", "stop it, or choose another directory";
    TARGET_FOREIGN = "conflict.target_foreign_cluster", 7, "The restore target belongs to another cluster.", "choose another directory";
    TARGET_NOT_DATA = "conflict.target_not_data_directory", 7, "The restore target holds files that are no PostgreSQL's.", "give the data directory itself, or an empty directory";
    RESUME_MISMATCH = "conflict.resume_mismatch", 7, "The interrupted restore was another one.", "`pg_hardstorage restore --delta` changes to this one";
    TARGET_IN_REPO = "usage.target_in_repository", 2, "The restore target lies inside the repository.", "choose a directory outside the repository";
    TARGET_SPACE = "preflight.no_space", 4, "The restore target has too little space.", "free space, or choose another directory";
    TARGET_OWNER = "preflight.owner_unclear", 4, "It is not clear who should own the restored files.", "name the owner with --owner USER";
    UNREACHABLE = "conflict.target_unreachable", 7, "The recovery target cannot be reached with what is in the repository.", "the message tells which moments can be reached";
    BEFORE_BACKUP = "notfound.backup_before_target", 6, "No backup ends before the recovery target.", "`pg_hardstorage list` shows the earliest backup";
    FILE_CORRUPT = "verify.file_corrupt", 9, "A restored file does not match PostgreSQL's own manifest.", "restore from another backup, and run `pg_hardstorage verify`";
    RESTORE_TEST = "verify.restore_failed", 9, "The restored copy did not start or did not answer.", "the message holds PostgreSQL's own words";
    DRILL_FAILED = "verify.drill_failed", 9, "A check of a drill failed.", "the report holds every check with what it expected, what it got and PostgreSQL's own words";
    NOT_A_DRILL = "conflict.not_a_drill", 7, "The directory was not prepared for a drill.", "prepare one with `pg_hardstorage restore --recover --hand-over drill`";
    CHECKS = "usage.invalid_checks", 2, "The checks of a drill cannot be read.", "write a JSON array of {\"name\", \"database\", \"sql\"}, and where wanted \"expect\" and \"timeout_seconds\"";
    RECOVERY = "restore.recovery_failed", 1, "PostgreSQL could not recover the restored copy.", "the message holds PostgreSQL's own words; a library that it lacks comes with the image of the origin";
    TARGET_NOT_REACHED = "conflict.target_not_reached", 7, "Recovery ended before its target.", "choose an earlier target; `pg_hardstorage wal audit` tells whether the archive has a hole";
    PROGRAMS = "notfound.postgres_programs", 6, "PostgreSQL's own programs were not found.", "name their directory with --pg-bin";
}
