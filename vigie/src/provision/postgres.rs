//! Roles for PostgreSQL: one owner of all tables, one role for each service, one for the operator's command, one that reads
//! the transactions.
//!
//! A service reads and writes the tables of its own schema, and sees of its readers' nothing but which events they have a
//! receipt for. It makes and changes no table: the owner does, with [`bring_up_to_date`].

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use chassis::db::PUBLISHED;
use chassis::{Definition, Service as _};
use schemas::EventKind;
use schemas::flow::TRAINER_BRIDGE;
use schemas::rights::{OPERATOR, services};
use sqlx::migrate::Migrator;
use sqlx::{Executor as _, PgPool};

/// Owns schemas and tables; migrates.
pub const OWNER: &str = "vigie_owner";
/// Reads transactions, and can do nothing else.
pub const SOURCE: &str = "vigie_source";
/// The record: rows are only ever added, and then given their places in the chain. Table, what is taken back of the rights in a
/// schema of one's own, and the columns that the sealer writes.
const RECORD: [(&str, &str, &str); 2] = [
    ("event_log", "update, delete", "link, prev_hash, hash"),
    ("event_log_head", "insert, update, delete", "link, hash"),
];
/// Books of what was migrated.
const MIGRATIONS: [&str; 2] = ["_chassis_migrations", "_sqlx_migrations"];

/// A table of transactions: schema and name.
pub type SourceTable = (String, String);

/// The role of a service or of [`OPERATOR`].
pub fn role_of(party: &str) -> String {
    format!("vigie_{}", schema_of(party))
}

fn schema_of(party: &str) -> String {
    party.replace('-', "_")
}

/// Every schema, and the roles that belong to it.
fn parties() -> impl Iterator<Item = &'static str> {
    services().chain([OPERATOR])
}

/// What an administrator runs once, and again after each upgrade: roles, schemas, rights.
pub fn whole(sources: &[SourceTable], statement_timeout: Duration) -> String {
    let mut text = String::from(
        "-- Written by `vigie provision postgres`. Run it in Vigie's database as an administrator; running it again changes nothing.\n\
         -- Roles have no password yet: give each its own (`alter role … password …`, or a certificate).\n\
         -- Then `vigie provision schemas` as vigie_owner makes the tables and gives the rights in them.\n\n",
    );
    let roles = [OWNER.to_owned(), SOURCE.to_owned()];
    for role in roles.into_iter().chain(parties().map(role_of)) {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "do $$ begin create role {role} login; exception when duplicate_object then null; end $$;"
        );
    }
    text.push_str(
        "\n-- The owner makes schemas, and the views in public that people query; nobody else makes anything.\n\
         do $$ begin\n  execute format('grant create on database %I to vigie_owner', current_database());\nend $$;\n\
         revoke create on schema public from public;\ngrant usage, create on schema public to vigie_owner;\n",
    );
    for party in parties() {
        let schema = schema_of(party);
        let _ = writeln!(
            text,
            "create schema if not exists {schema} authorization {OWNER};"
        );
    }
    let _ = write!(
        text,
        "\n-- Whoever reads transactions can write nothing, and no query of theirs runs for long.\n\
         alter role {SOURCE} set default_transaction_read_only = on;\n\
         alter role {SOURCE} set statement_timeout = '{}ms';\n",
        statement_timeout.as_millis()
    );
    for (schema, table) in sources {
        let _ = writeln!(
            text,
            "grant usage on schema {} to {SOURCE};\ngrant select on {}.{} to {SOURCE};",
            quoted(schema),
            quoted(schema),
            quoted(table)
        );
    }
    text.push('\n');
    text.push_str(&rights());
    text
}

/// The rights in the tables that are there, for the roles that are there; the owner of the tables can give them.
pub fn rights() -> String {
    let mut text = String::from("-- Rights: each role what its work needs.\n");
    for party in parties() {
        text.push_str(&in_its_own(party));
    }
    for publisher in services() {
        for reader in readers_of(publisher) {
            let (schema, role) = (schema_of(reader), role_of(publisher));
            // Whether an event has a receipt, for the sweep.
            text.push_str(&guarded(
                &schema,
                &role,
                &[
                    &format!("grant usage on schema {schema} to {role}"),
                    &on_table(
                        &schema,
                        "inbox",
                        &format!("grant select (consumer, event_id) on {schema}.inbox to {role}"),
                    ),
                ],
            ));
        }
    }
    for service in services() {
        text.push_str(&for_operator(&schema_of(service)));
    }
    let operator = role_of(OPERATOR);
    // Who was champion when.
    for table in ["promotion", "model_version"] {
        let schema = schema_of(TRAINER_BRIDGE);
        let grant = on_table(
            &schema,
            table,
            &format!("grant select on {schema}.{table} to {operator}"),
        );
        text.push_str(&guarded(&schema, &operator, &[&grant]));
    }
    for view in PUBLISHED {
        let grant = on_table(
            "public",
            view,
            &format!("grant select on public.{view} to {operator}"),
        );
        text.push_str(&guarded("public", &operator, &[&grant]));
    }
    text
}

/// Everything in its own schema, except what is only ever added to and what only the owner writes.
fn in_its_own(party: &str) -> String {
    let (schema, role) = (schema_of(party), role_of(party));
    let mut statements = vec![
        format!("revoke all on schema {schema} from public"),
        format!("revoke all on all tables in schema {schema} from public, {role}"),
        format!("grant usage on schema {schema} to {role}"),
        format!("grant select, insert, update, delete on all tables in schema {schema} to {role}"),
        format!("grant usage on all sequences in schema {schema} to {role}"),
    ];
    for (table, taken_back, sealed) in RECORD {
        for statement in [
            format!("revoke {taken_back} on {schema}.{table} from {role}"),
            format!("grant update ({sealed}) on {schema}.{table} to {role}"),
        ] {
            statements.push(on_table(&schema, table, &statement));
        }
    }
    for table in MIGRATIONS {
        statements.push(on_table(
            &schema,
            table,
            &format!("revoke insert, update, delete on {schema}.{table} from {role}"),
        ));
    }
    let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
    guarded(&schema, &role, &statements)
}

/// The record is read and verified; dead letters are looked at, decided about, and offered once more, which goes on record.
fn for_operator(schema: &str) -> String {
    let role = role_of(OPERATOR);
    let grants = [
        format!("grant usage on schema {schema} to {role}"),
        on_table(
            schema,
            "event_log",
            &format!("grant select, insert on {schema}.event_log to {role}"),
        ),
        on_table(
            schema,
            "event_log_head",
            &format!("grant select on {schema}.event_log_head to {role}"),
        ),
        on_table(
            schema,
            "dead_letter",
            &format!(
                "grant select, update (state, decided_by, decided_at, decision) on {schema}.dead_letter to {role}"
            ),
        ),
        on_table(
            schema,
            "inbox",
            &format!("grant select (consumer, event_id, state), delete on {schema}.inbox to {role}"),
        ),
        on_table(
            schema,
            "outbox",
            &format!(
                "grant insert, select (event_id, redriven), \
                 update (redriven, published_at, stream_seq, failed_reason, attempt, next_at, confirmed_at, offer) on {schema}.outbox to {role}"
            ),
        ),
    ];
    guarded(schema, &role, &grants.each_ref().map(String::as_str))
}

/// Services that must receive what this one says.
fn readers_of(publisher: &str) -> Vec<&'static str> {
    let said = EventKind::ALL
        .iter()
        .filter(|kind| kind.publishers().contains(&publisher));
    let mut readers: Vec<&str> = said.flat_map(|kind| kind.readers()).copied().collect();
    readers.sort_unstable();
    readers.dedup();
    readers.retain(|reader| *reader != publisher);
    readers
}

/// Statements for a schema and a role, if both are there.
fn guarded(schema: &str, role: &str, statements: &[&str]) -> String {
    let mut text = format!(
        "do $$ begin\n  if to_regnamespace('{schema}') is not null and to_regrole('{role}') is not null then\n"
    );
    for statement in statements {
        let _ = writeln!(text, "    {statement};");
    }
    text.push_str("  end if;\nend $$;\n");
    text
}

/// A statement about a table, if it is there; its end is the caller's semicolon.
fn on_table(schema: &str, table: &str, statement: &str) -> String {
    format!("if to_regclass('{schema}.{table}') is not null then {statement}; end if")
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Migrates all schemas as the owner of the tables, and gives the rights in them to the roles that are there.
///
/// # Errors
/// When a migration fails, or the role of the connection does not own the tables.
pub async fn bring_up_to_date(pool: &PgPool) -> anyhow::Result<()> {
    let definitions: [&Definition; 5] = [
        &drift_monitor::DriftMonitor::DEFINITION,
        &retrain_decider::RetrainDecider::DEFINITION,
        &trainer_bridge::TrainerBridge::DEFINITION,
        &validator::Validator::DEFINITION,
        &notifier::Notifier::DEFINITION,
    ];
    for definition in definitions {
        chassis::db::migrate(pool, definition.schema, definition.migrator).await?;
    }
    chassis::db::migrate(pool, OPERATOR, &Migrator::with_migrations(Vec::new())).await?;
    let rights = rights();
    pool.execute(sqlx::AssertSqlSafe(rights))
        .await
        .context("give the roles their rights; does this role own the tables?")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_settings_stay_names() {
        let table = ("we\"ird; drop".to_owned(), "payments\" to public; --".to_owned());
        let text = whole(&[table], Duration::from_secs(120));
        assert!(
            text.contains(
                "grant select on \"we\"\"ird; drop\".\"payments\"\" to public; --\" to vigie_source;"
            ),
            "{text}"
        );
        assert!(text.contains("set statement_timeout = '120000ms'"), "{text}");
    }
}
