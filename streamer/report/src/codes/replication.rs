//! Codes of the connection to PostgreSQL.

super::codes! {
    UNREACHABLE = "unreachable.postgres", 8, "PostgreSQL does not answer.", "check host, port, network and whether the server runs";
    AUTH = "auth.postgres", 3, "PostgreSQL refuses user or password.", "check the user and the password; a passfile or PGPASSWORD keeps it out of the command";
    HBA = "auth.pg_hba", 3, "pg_hba.conf has no line for this replication connection.", "add `host replication USER ADDRESS scram-sha-256` to pg_hba.conf and reload";
    ROLE = "auth.role_no_replication", 3, "The role may not start replication.", "ALTER ROLE ... REPLICATION";
    TLS = "auth.tls", 3, "The TLS handshake failed.", "check sslmode, sslrootcert and the server's certificate";
    VERSION = "preflight.postgres_version", 4, "The server's version is not supported.", "PostgreSQL 15 to 18 are supported";
    PROTOCOL = "replication.protocol", 1, "The server sent something that the protocol does not allow.", "please report it with the message and the server's version";
    SERVER = "replication.server_error", 1, "The server answered with an error.", "the message is the server's own";
    SLOTS_FULL = "preflight.no_free_slot", 4, "The server has no free replication slot.", "drop a slot that nobody uses, or raise max_replication_slots and restart PostgreSQL";
    SENDERS_FULL = "preflight.no_free_walsender", 4, "The server has no free walsender.", "raise max_wal_senders, set wal_level = replica where it is minimal, and restart PostgreSQL";
    SLOT_IN_USE = "conflict.slot_in_use", 7, "Another process streams from this slot.", "stop it, or use --wait";
    SLOT_EXISTS = "conflict.slot_exists", 7, "A replication slot of this name exists already.", "use it, or choose another name";
    SLOT_UNUSABLE = "conflict.slot_unusable", 7, "The replication slot is a logical one, or was invalidated and could not be made anew.", "name another slot with --slot, or drop this one; one that was invalidated `pg_hardstorage wal stream` makes anew by itself";
    SLOT_MISSING = "notfound.slot", 6, "The replication slot does not exist.", "it is created by `pg_hardstorage wal stream`";
    WAL_REMOVED = "replication.wal_removed", 1, "The server has already removed the WAL that is needed next.", "a gap is recorded; take a new backup";
    HISTORY_MISSING = "notfound.timeline_history", 6, "The server has no history file of this timeline.", "a timeline that never was on this server, or a file removed from pg_wal; another server of the cluster may have it";
    DENIED = "auth.postgres_permission", 3, "The role may not read this.", "GRANT pg_read_all_settings TO the role shows settings; everything else works without";
    WAL_LEVEL = "preflight.wal_level", 4, "wal_level is too low for replication.", "set wal_level = replica and restart PostgreSQL";
}
