//! The command line.

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Look at and ask for PostgreSQL backups with pg_hardstorage
#[derive(Debug, Parser)]
#[command(name = "kubectl-hardstorage", bin_name = "kubectl hardstorage", version)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// Where
    #[command(flatten)]
    pub scope: Scope,
}

/// Which cluster, and which part of it.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct Scope {
    /// Context of the kubeconfig
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Path of the kubeconfig
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<std::path::PathBuf>,
    /// Namespace [default: the context's]
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long, global = true, conflicts_with = "namespace")]
    pub all_namespaces: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Is everything protected? One line for each cluster
    Status(StatusArgs),
    /// Take a backup now
    Backup(BackupArgs),
    /// Bring a cluster back to a moment, in a new place
    Restore(RestoreArgs),
    /// Prove that it can be restored: a copy is restored, asked, and thrown away
    Drill(DrillArgs),
    /// Show what the stream of a Deployment, or the run of a Backup, logs
    Logs(LogsArgs),
    /// Look for what is wrong, each with what to do about it
    Doctor(DoctorArgs),
    /// Print the completions of a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// How the answer is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
}

/// Of `status`.
#[derive(Debug, ClapArgs)]
pub struct StatusArgs {
    /// List the clusters of CloudNativePG, Zalando and Crunchy that no Deployment protects
    #[arg(long)]
    pub unprotected: bool,
    /// How the answer is written
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// Of `backup`.
#[derive(Debug, ClapArgs)]
pub struct BackupArgs {
    /// The Deployment of hardstorage.dev
    pub deployment: String,
    /// Name of the Backup object [default: the Deployment's, and the time]
    #[arg(long)]
    pub name: Option<String>,
    /// A name for people, kept with the backup
    #[arg(long)]
    pub label: Option<String>,
    /// Return at once instead of waiting for its end
    #[arg(long)]
    pub no_wait: bool,
    /// How the answer is written
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// Of `restore`.
#[derive(Debug, ClapArgs)]
#[command(group = clap::ArgGroup::new("place").required(true).args(["into_cluster", "into_claim"]))]
#[command(group = clap::ArgGroup::new("moment").args(["to", "to_lsn", "to_name", "to_end_of_backup"]))]
pub struct RestoreArgs {
    /// The Deployment of hardstorage.dev; with --repository a name in that repository
    pub of: String,
    /// The Repository, as NAME or NAMESPACE/NAME, when the Deployment is gone
    #[arg(long)]
    pub repository: Option<String>,
    /// A time, with its zone (2026-11-22T08:15:00Z), or "5 minutes ago" [default: the end of what is in the repository]
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// A position of the WAL
    #[arg(long, value_name = "LSN")]
    pub to_lsn: Option<String>,
    /// A restore point
    #[arg(long, value_name = "NAME")]
    pub to_name: Option<String>,
    /// The end of the backup, and nothing later
    #[arg(long)]
    pub to_end_of_backup: bool,
    /// Id of the backup to begin with [default: the newest that leads to the moment]
    #[arg(long)]
    pub backup: Option<String>,
    /// Make a new Cluster of CloudNativePG of this name
    #[arg(long, value_name = "NAME")]
    pub into_cluster: Option<String>,
    /// Make a PersistentVolumeClaim of this name with a data directory for any PostgreSQL
    #[arg(long, value_name = "NAME")]
    pub into_claim: Option<String>,
    /// Name of the Restore object [default: the source's, and the time]
    #[arg(long)]
    pub name: Option<String>,
    /// Make the plan, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Return at once instead of waiting for its end
    #[arg(long)]
    pub no_wait: bool,
    /// How the answer is written
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// Of `drill`.
#[derive(Debug, ClapArgs)]
pub struct DrillArgs {
    /// The Deployment of hardstorage.dev
    pub deployment: String,
    /// A time, with its zone (2026-11-22T08:15:00Z), or "5 minutes ago" [default: the end of what is in the repository]
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// A check, as NAME=SQL: one statement whose answer has to be t; may be given several times
    #[arg(long, value_name = "NAME=SQL", value_parser = name_and_sql)]
    pub check: Vec<(String, String)>,
    /// The database that the checks ask
    #[arg(long, value_name = "NAME", default_value = "app")]
    pub database: String,
    /// How long the copy is kept when the drill fails, as 30m or 2h [default: 1h]
    #[arg(long, value_name = "DURATION")]
    pub keep_on_failure: Option<String>,
    /// Image of PostgreSQL that runs the copy [default: the one that was recorded with the backup]
    #[arg(long, value_name = "IMAGE")]
    pub postgres_image: Option<String>,
    /// Name of the Restore object [default: the Deployment's, and the time]
    #[arg(long)]
    pub name: Option<String>,
    /// Return at once instead of waiting for its end
    #[arg(long)]
    pub no_wait: bool,
    /// How the answer is written
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

fn name_and_sql(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, sql)) if !name.is_empty() && !sql.trim().is_empty() => Ok((name.to_owned(), sql.to_owned())),
        _ => Err("a check is written as NAME=SQL".to_owned()),
    }
}

/// Of `logs`.
#[derive(Debug, ClapArgs)]
pub struct LogsArgs {
    /// A Deployment, or `backup/NAME`, or `restore/NAME`
    pub of: String,
    /// Go on as it is written
    #[arg(short, long)]
    pub follow: bool,
    /// Lines of what was written before
    #[arg(long, default_value_t = 200)]
    pub tail: i64,
}

/// Of `doctor`.
#[derive(Debug, ClapArgs)]
pub struct DoctorArgs {
    /// End with 10 when there is something to do
    #[arg(long)]
    pub exit_on_issues: bool,
    /// How the answer is written
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}
