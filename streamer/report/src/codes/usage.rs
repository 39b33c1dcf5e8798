//! Codes for a call that is wrong in itself: exit 2, nothing was tried.

super::codes! {
    INVALID = "usage.invalid", 2, "An argument or option is not acceptable.", "see `pg_hardstorage help` for the command";
    NAME = "usage.invalid_name", 2, "A deployment name or backup id is malformed.", "use lower-case letters, digits, '-' and '.', at most 128 bytes";
    TIME = "usage.invalid_time", 2, "A time cannot be read or cannot exist.", "write for example \"5 minutes ago\" or 2026-11-22 08:15:00+01:00";
    LSN = "usage.invalid_lsn", 2, "A WAL position cannot be read.", "write it as PostgreSQL prints it, for example 0/3000028";
    URL = "usage.invalid_url", 2, "A repository URL cannot be read.", "write for example file:///srv/backup or s3://bucket/prefix?region=eu-central-1";
    SCHEME = "usage.unknown_scheme", 2, "The repository URL has a scheme that no backend serves.", "this build serves file:// and s3://";
    CONNINFO = "usage.invalid_connection", 2, "A PostgreSQL connection string cannot be read.", "write postgres://user@host:5432/postgres or key=value pairs";
}
