//! Makes a promoted copy ready for the checks of a drill: the role that asks, and amcheck, which reads indexes.
//!
//! Both have to be made here, because the drill asks a hot standby, where nothing can be made. The role can read
//! everything and change nothing; one of its name that is there already, with whatever rights, becomes just that.

use hardstorage_report::{Result, Severity};
use serde::Deserialize;
use serde_json::json;

use super::promote::Job;
use super::session::Asked;
use crate::drill::ROLE;

/// Databases that can be asked; one whose removal was interrupted cannot.
const DATABASES: &str = "SELECT coalesce(json_agg(datname ORDER BY datname), '[]') FROM pg_catalog.pg_database \
     WHERE datallowconn AND datconnlimit <> -2";

/// Triggers of events, which are the database's own code, and would run in ours: before 17 no setting keeps them quiet.
const TRIGGERS: &str = "SELECT coalesce(json_agg(json_build_object('oid', oid::int8, 'fires', evtenabled)), '[]') \
     FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D'";

/// The way to each function of amcheck.
const FUNCTIONS: &str = "SELECT coalesce(json_agg(d.objid::regprocedure::text), '[]') FROM pg_catalog.pg_depend d \
     JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid WHERE e.extname = 'amcheck' \
     AND d.refclassid = 'pg_extension'::regclass AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'";

/// A trigger of events that is not disabled.
#[derive(Debug, Deserialize)]
struct Trigger {
    oid: u32,
    fires: char,
}

/// A name in a statement.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What makes the role what it is.
fn role(exists: bool) -> String {
    let before = if exists {
        // Its memberships and settings go as the catalogue has them: a grantor may be gone, and this is a copy.
        format!(
            "DELETE FROM pg_auth_members WHERE member = '{ROLE}'::regrole; \
             DELETE FROM pg_db_role_setting WHERE setrole = '{ROLE}'::regrole; "
        )
    } else {
        format!("CREATE ROLE {ROLE}; ")
    };
    format!(
        "{before}ALTER ROLE {ROLE} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION INHERIT BYPASSRLS \
         CONNECTION LIMIT -1 PASSWORD NULL VALID UNTIL 'infinity'; GRANT pg_read_all_data TO {ROLE}"
    )
}

/// What lets the role into a database.
fn admission(database: &str) -> String {
    let database = quoted(database);
    format!("GRANT CONNECT ON DATABASE {database} TO {ROLE}; ALTER DATABASE {database} CONNECTION LIMIT -1")
}

/// Says when a trigger fires.
fn set(trigger: &Trigger, fires: char) -> String {
    let oid = trigger.oid;
    format!("UPDATE pg_event_trigger SET evtenabled = '{fires}' WHERE oid = {oid}; ")
}

/// The same statements, while no trigger of events fires.
fn quietly(triggers: &[Trigger], statements: &str) -> String {
    let mut all = String::new();
    for trigger in triggers {
        all.push_str(&set(trigger, 'D'));
    }
    all.push_str(statements);
    for trigger in triggers {
        all.push_str(&set(trigger, trigger.fires));
    }
    all
}

/// Prepares every database that can be asked. Where amcheck cannot be had a drill reads no indexes, and that is told.
pub(super) async fn prepare(job: &Job<'_>, asked: &Asked<'_>) -> Result<()> {
    let databases: Vec<String> = asked.list(DATABASES).await?;
    let exists = format!("SELECT count(*) FROM pg_roles WHERE rolname = '{ROLE}'");
    let exists = asked.run(&exists).await? != "0";
    asked.run(&role(exists)).await?;
    for database in &databases {
        asked.run(&admission(database)).await?;
        if let Err(words) = amcheck(asked, database).await? {
            let message = format!("a drill cannot read the indexes of {database}: {words}");
            job.emit(
                Severity::Warning,
                "restore.amcheck_missing",
                json!({"database": database, "message": message}),
            );
        }
    }
    job.emit(
        Severity::Info,
        "restore.drill_prepared",
        json!({"role": ROLE, "databases": databases}),
    );
    Ok(())
}

/// Makes amcheck in a database, and gives it to the role; the inner error says why it is not there.
async fn amcheck(asked: &Asked<'_>, database: &str) -> Result<Result<(), String>> {
    let triggers: Vec<Trigger> = asked.list_in(database, TRIGGERS).await?;
    // Among PostgreSQL's own functions none of the database's can be meant instead.
    let make = quietly(&triggers, "CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA pg_catalog; ");
    if let Err(words) = asked.try_in(database, &make).await? {
        return Ok(Err(words));
    }
    let functions: Vec<String> = asked.list_in(database, FUNCTIONS).await?;
    let grants = functions
        .iter()
        .map(|function| format!("GRANT EXECUTE ON FUNCTION {function} TO {ROLE}; "));
    let given = quietly(&triggers, &grants.collect::<String>());
    Ok(asked.try_in(database, &given).await?.map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_triggers_fire_again_as_before() {
        assert!(role(false).starts_with("CREATE ROLE hardstorage_drill; ALTER ROLE"));
        assert!(role(true).starts_with("DELETE FROM pg_auth_members"));
        assert!(admission("a\"b").starts_with(r#"GRANT CONNECT ON DATABASE "a""b" TO"#));
        let triggers = [('A', 7), ('O', 8)].map(|(fires, oid)| Trigger { oid, fires });
        assert_eq!(
            quietly(&triggers, "x; "),
            "UPDATE pg_event_trigger SET evtenabled = 'D' WHERE oid = 7; \
             UPDATE pg_event_trigger SET evtenabled = 'D' WHERE oid = 8; x; \
             UPDATE pg_event_trigger SET evtenabled = 'A' WHERE oid = 7; \
             UPDATE pg_event_trigger SET evtenabled = 'O' WHERE oid = 8; "
        );
    }
}
