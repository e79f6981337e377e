//! The whole matrix of roles, tables and verbs, tried at a real PostgreSQL. What is expected is written here by hand: the code
//! that makes the grants is not asked.

use std::time::Duration;

use drift_monitor::DriftMonitor;
use local_stack::TestEnv;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use vigie::provision::postgres;

const ROLES: [(&str, &str); 6] = [
    ("vigie_drift_monitor", "drift_monitor"),
    ("vigie_retrain_decider", "retrain_decider"),
    ("vigie_trainer_bridge", "trainer_bridge"),
    ("vigie_validator", "validator"),
    ("vigie_notifier", "notifier"),
    ("vigie_operator", "operator"),
];
const VERBS: [&str; 4] = ["select", "insert", "update", "delete"];

/// Roles, tables, a table of transactions and a history that is only added to; the connection is an administrator's.
async fn provisioned(env: &TestEnv) -> PgConnection {
    let mut connection = PgConnection::connect(&env.database_url).await.unwrap();
    connection
        .execute(
            "create schema bank; create table bank.payment (id bigint, amount float8); create table bank.secret (id bigint)",
        )
        .await
        .unwrap();
    let sources = [("bank".to_owned(), "payment".to_owned())];
    let sql = postgres::whole(&sources, Duration::from_secs(90));
    for _ in 0..2 {
        connection.execute(AssertSqlSafe(sql.clone())).await.unwrap();
    }
    // Migrations are the owner's: no right of an administrator is needed for them.
    let owner = PgPool::connect(&as_role(&env.database_url, "vigie_owner"))
        .await
        .unwrap();
    postgres::bring_up_to_date(&owner).await.unwrap();
    owner.close().await;
    connection
}

/// The same database, as another role.
pub fn as_role(url: &str, role: &str) -> String {
    let (_, rest) = url.split_once('@').expect("a user in the URL");
    format!("postgres://{role}@{rest}")
}

/// Tables and views of ours and of the bank: schema, name, first column.
async fn relations(connection: &mut PgConnection) -> Vec<(String, String, String)> {
    sqlx::query_as(
        "select n.nspname::text, c.relname::text, quote_ident(a.attname) from pg_class c \
         join pg_namespace n on n.oid = c.relnamespace \
         join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
         where c.relkind in ('r', 'v') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' \
         and a.attnum = (select min(attnum) from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped) \
         order by 1, 2",
    )
    .fetch_all(connection)
    .await
    .unwrap()
}

/// What the tables of this test say: by hand, in words of the work.
fn expected(role: &str, own: &str, schema: &str, table: &str, verb: &str) -> bool {
    match (schema, table) {
        // What people query is shown to people: the operator, and whoever an administrator lets.
        ("public", _) => role == "vigie_operator" && verb == "select",
        ("bank", "payment") => role == "vigie_source" && verb == "select",
        ("bank", _) => false,
        (schema, "_chassis_migrations" | "_sqlx_migrations") => schema == own && verb == "select",
        // Nobody changes or forgets what is on record; the sealer's columns are not tried here.
        (schema, "event_log") => {
            (schema == own || role == "vigie_operator") && (verb == "select" || verb == "insert")
        }
        (schema, "event_log_head") => (schema == own || role == "vigie_operator") && verb == "select",
        (schema, _) if schema == own => true,
        // An operator reads dead letters, and offers a message once more: the rest of it is in columns, tried below.
        // Who was champion when is the trainer's to know and the operator's to ask.
        (_, "dead_letter") | ("trainer_bridge", "promotion" | "model_version") => {
            role == "vigie_operator" && verb == "select"
        }
        (_, "inbox") => role == "vigie_operator" && verb == "delete",
        (_, "outbox") => role == "vigie_operator" && verb == "insert",
        _ => false,
    }
}

/// Whether a statement is allowed to this connection's role; what else is wrong with it does not matter.
async fn may(connection: &mut PgConnection, statement: &str) -> bool {
    let mut tx = connection.begin().await.unwrap();
    let result = tx.execute(AssertSqlSafe(statement.to_owned())).await;
    tx.rollback().await.unwrap();
    match result {
        Ok(_) => true,
        // 25006: the transaction is read-only, whatever the grants say.
        Err(sqlx::Error::Database(error)) => {
            !["42501", "25006"].contains(&error.code().unwrap_or_default().as_ref())
        }
        Err(error) => panic!("{statement}: {error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_may_do_exactly_what_its_work_needs_in_the_database() {
    let env = TestEnv::new().await;
    let mut admin = provisioned(&env).await;
    let relations = relations(&mut admin).await;
    assert!(relations.len() > 50, "{relations:?}");
    let mut wrong = Vec::new();
    for (role, own) in ROLES.into_iter().chain([("vigie_source", "nothing")]) {
        let mut connection = PgConnection::connect(&as_role(&env.database_url, role))
            .await
            .unwrap();
        for (schema, table, column) in &relations {
            for verb in VERBS {
                let statement = match verb {
                    "select" => format!("select * from {schema}.{table} limit 0"),
                    "insert" => format!("insert into {schema}.{table} default values"),
                    "update" => format!("update {schema}.{table} set {column} = default where false"),
                    _ => format!("delete from {schema}.{table} where false"),
                };
                // Many views could not be changed by anybody: what was granted is asked there, and not tried.
                let found = if schema == "public" && verb != "select" {
                    let granted = format!("select has_table_privilege('{schema}.{table}', '{verb}')");
                    sqlx::query_scalar(AssertSqlSafe(granted))
                        .fetch_one(&mut connection)
                        .await
                        .unwrap()
                } else {
                    may(&mut connection, &statement).await
                };
                if found != expected(role, own, schema, table, verb) {
                    let word = if found { "should not" } else { "should" };
                    wrong.push(format!("{role} {word} be able to {verb} {schema}.{table}"));
                }
            }
        }
        for statement in [
            "create schema mine".to_owned(),
            "create table public.mine ()".to_owned(),
            format!(
                "create table {}.mine ()",
                if own == "nothing" { "bank" } else { own }
            ),
            "drop view public.drift_metrics".to_owned(),
            "truncate drift_monitor.event_log".to_owned(),
            "alter table drift_monitor.event_log disable trigger all".to_owned(),
            "set role vigie_owner".to_owned(),
            "select pg_read_file('/etc/passwd')".to_owned(),
            "copy bank.payment from program 'true'".to_owned(),
        ] {
            if may(&mut connection, &statement).await {
                wrong.push(format!("{role} should not be able to {statement}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_others_are_open_only_where_receipts_and_dead_letters_need_it() {
    let env = TestEnv::new().await;
    let mut admin = provisioned(&env).await;
    let receipt = "select from notifier.inbox where consumer = '' and event_id is null";
    let mut wrong = Vec::new();
    for (role, statement, expected) in [
        // The sweep of a publisher looks for receipts of its readers, and of nobody else.
        ("vigie_drift_monitor", receipt, true),
        ("vigie_retrain_decider", receipt, true),
        (
            "vigie_drift_monitor",
            "select from validator.inbox where event_id is null",
            false,
        ),
        (
            "vigie_notifier",
            "select from validator.inbox where event_id is null",
            false,
        ),
        (
            "vigie_drift_monitor",
            "select first_seen from notifier.inbox",
            false,
        ),
        ("vigie_operator", "select state from notifier.inbox", true),
        ("vigie_operator", "select deliveries from notifier.inbox", false),
        (
            "vigie_operator",
            "update notifier.dead_letter set state = 'discarded', decided_by = '' where false",
            true,
        ),
        (
            "vigie_operator",
            "update notifier.dead_letter set data = '' where false",
            false,
        ),
        (
            "vigie_operator",
            "update notifier.outbox set redriven = redriven + 1, published_at = null",
            true,
        ),
        ("vigie_operator", "update notifier.outbox set data = ''", false),
        ("vigie_operator", "select data from notifier.outbox", false),
        ("vigie_source", "select amount from bank.payment", true),
    ] {
        let mut connection = PgConnection::connect(&as_role(&env.database_url, role))
            .await
            .unwrap();
        if may(&mut connection, statement).await != expected {
            wrong.push(format!("{role}: {statement} should be {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // Even where a grant was too wide, whoever reads transactions writes nothing, and no query of theirs runs for long.
    admin
        .execute("grant insert on bank.payment to vigie_source")
        .await
        .unwrap();
    let mut source = PgConnection::connect(&as_role(&env.database_url, "vigie_source"))
        .await
        .unwrap();
    assert!(!may(&mut source, "insert into bank.payment default values").await);
    let (timeout,): (String,) = sqlx::query_as("show statement_timeout")
        .fetch_one(&mut source)
        .await
        .unwrap();
    assert_eq!(timeout, "90s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_may_not_migrate_says_who_is_to_do_it() {
    chassis::install_crypto();
    let env = TestEnv::new().await;
    let settings = format!(
        "[database]\nurl = {:?}\nmigrate = false\n[nats]\nurl = {:?}\n[http]\ndrift_monitor = \"\"\n",
        env.database_url, env.nats_url
    );
    let sources = chassis::Sources {
        overrides: vec![("test".to_owned(), settings)],
        ..chassis::Sources::default()
    };
    let refused = chassis::launch::<DriftMonitor>(&sources, CancellationToken::new()).await;
    let told = format!("{:#}", refused.unwrap_err());
    for part in [
        "schema `drift_monitor`",
        "0001 create outbox inbox",
        "`vigie provision schemas`",
    ] {
        assert!(told.contains(part), "{part} is missing in: {told}");
    }
}
