//! Restoring a backup to a moment.

mod arm;
mod choose;
mod claim;
mod configuration;
mod content;
mod course;
mod cover;
mod directory;
mod marker;
mod notes;
mod onto;
mod place;
mod plan;
mod record;
mod run;
mod settings;
mod stage;
mod stop;
mod sweep;
mod tablespaces;
mod target;
mod when;

pub use directory::{DirectorySink, Layout};
pub use marker::MARKER;
pub use onto::{Onto, Unfinished};
pub use place::{Owner, Place, check as check_places, control_system_id, owner, parse_owner, resolve};
pub use plan::{RestorePlan, RestoreRequest, plan_restore};
pub(crate) use record::meets;
pub use run::{RestoreOptions, run_restore};
pub use settings::{RecoverySettings, auto_conf, neutralised, quote_shell, restore_command};
pub(crate) use settings::{line, patroni_auto_conf, recovered_auto_conf, recovery_lines, without_block};
pub(crate) use stage::{FOLDER as STAGED, Staging, segments_of_backup};
pub use tablespaces::map_tablespaces;
pub use target::{RecoveryTarget, StopAt, TargetAction, TargetTimeline};
pub use when::{both_zones, parse_time};
