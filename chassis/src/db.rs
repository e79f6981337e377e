//! PostgreSQL: the pool, the service's schema, migrations.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions, PgSslMode};
use sqlx::{AssertSqlSafe, Connection as _, Executor, PgConnection, PgPool, Row as _};

use crate::patience::{MIGRATE_MAX, NoAnswer, START_MAX, within};
use crate::settings::{Reader, Secret, Section};
use crate::transport;

/// A transaction on the service's pool.
pub type Tx = sqlx::Transaction<'static, sqlx::Postgres>;

/// Oldest supported major version of PostgreSQL.
pub const POSTGRES_MAJOR_MIN: i32 = 15;
/// Class of the advisory lock that serialises changes of shared views.
const VIEW_LOCK: i64 = 0x5649_4749_4501;

/// Where the chassis keeps which of its migrations were applied.
const CHASSIS_MIGRATIONS: &str = "_chassis_migrations";

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// How to reach the database.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// `postgres://…`; may hold a password.
    pub url: Secret,
    /// Largest number of connections.
    pub connections_max: u32,
    /// Longest wait for a free connection.
    pub acquire_timeout: Duration,
    /// Longest wait for the answer to a statement on few rows, and longest that a transaction may stand still.
    pub answer_timeout: Duration,
    /// Whether services bring their tables up to date themselves, or only look whether they are.
    pub migrate: bool,
}

impl DatabaseSettings {
    /// Reads `[database]`.
    pub fn read(reader: &Reader<'_>) -> Self {
        let section = reader.section("database");
        let url = section.text("url", URL_EXPECTED);
        check_url(&section, "url", &url);
        Self {
            url: Secret::new(url),
            connections_max: u32::try_from(section.integer("connections_max", 2..=100)).unwrap_or(2),
            acquire_timeout: section.duration(
                "acquire_timeout",
                Duration::from_secs(1)..=Duration::from_secs(300),
            ),
            answer_timeout: section.duration("answer_timeout", ANSWER_TIMEOUT_MIN..=Duration::from_secs(300)),
            migrate: section.flag("migrate"),
        }
    }
}

/// The relay's transaction stands still while the broker is asked, and the sweep's as well.
const ANSWER_TIMEOUT_MIN: Duration = Duration::from_secs(10);

/// What an address of a database looks like.
const URL_EXPECTED: &str = "a PostgreSQL URL, e.g. `postgres://user@host:5432/fraud_db`";

/// Reports what is wrong with the address of a database: its form, or that it leads out of this machine unprotected.
pub fn check_url(section: &Section<'_>, name: &str, url: &str) {
    // The driver itself would take any scheme.
    let scheme = ["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.starts_with(scheme));
    if !url.is_empty() && (!scheme || PgConnectOptions::from_str(url).is_err()) {
        section.problem(name, URL_EXPECTED);
        return;
    }
    let instead = "`?sslmode=verify-full` at its end (and `&sslrootcert=FILE` for an authority of your own)";
    transport::expect_protected(section, name, !url.is_empty() && is_exposed(url), instead);
}

/// Whether what is said to the database can be read or changed on its way: a certificate that nobody compares is none.
pub fn is_exposed(url: &str) -> bool {
    PgConnectOptions::from_str(url).is_ok_and(|options| {
        let compared = matches!(
            options.get_ssl_mode(),
            PgSslMode::VerifyCa | PgSslMode::VerifyFull
        );
        options.get_socket().is_none() && transport::is_exposed(Some(options.get_host()), compared)
    })
}

/// Connections that were idle for longer are asked whether they are still there before they are used.
const TRUSTED_IDLE: Duration = Duration::from_millis(100);
/// Longest wait for the answer to such a question; then the connection is given up.
const PING_MAX: Duration = Duration::from_secs(5);
/// Connections that nobody needs for so long are closed.
const IDLE_MAX: Duration = Duration::from_secs(300);
/// The server ends sessions that are silent for longer: their client is gone, or waits for an answer that was lost.
/// More than twice [`IDLE_MAX`], after which the pool itself has closed them.
const SESSION_IDLE_MAX: Duration = Duration::from_secs(900);

/// Names of the views in `public` that people query.
pub const PUBLISHED: [&str; 5] = [
    "airflow_task_metrics",
    "drift_checks",
    "drift_metrics",
    "model_versions",
    "retraining_triggers",
];

/// Connects, checks the server's version and puts the service's schema first on the search path.
///
/// # Errors
/// When the server cannot be reached (at once when it refuses) or is older than PostgreSQL 15.
pub async fn connect(settings: &DatabaseSettings, service: &str, schema: &str) -> anyhow::Result<PgPool> {
    let options = PgConnectOptions::from_str(settings.url.expose())
        .context("read `database.url`")?
        .application_name(&format!("vigie-{service}"))
        .options([
            ("search_path", format!("{schema},public")),
            ("timezone", "UTC".to_owned()),
            (
                "idle_in_transaction_session_timeout",
                milliseconds(settings.answer_timeout),
            ),
            ("idle_session_timeout", milliseconds(SESSION_IDLE_MAX)),
        ]);
    let url = settings.url.expose();
    transport::warn("database.url", &shown_url(url), is_exposed(url));
    let at = || format!("connect to PostgreSQL at {}", shown_url(url));
    knock(&options, settings.acquire_timeout).await.with_context(at)?;
    let question = format!("select {IS_FREE} and {}", sees(schema));
    let pool = pool_options()
        .after_release(move |connection, _| Box::pin(is(connection, question.clone())))
        .max_connections(settings.connections_max)
        .acquire_timeout(settings.acquire_timeout)
        .connect_with(options)
        .await
        .with_context(at)?;
    let asked = sqlx::query_as("show server_version_num").fetch_one(&pool);
    let (number,): (String,) = within(settings.answer_timeout, asked).await.with_context(at)?;
    let major = number.parse::<i32>().unwrap_or(0) / 10_000;
    if major < POSTGRES_MAJOR_MIN {
        bail!("PostgreSQL {major} is too old; Vigie needs {POSTGRES_MAJOR_MIN} or newer");
    }
    Ok(pool)
}

fn milliseconds(span: Duration) -> String {
    format!("{}ms", span.as_millis())
}

/// Options of a pool that never waits for ever: a connection whose answers are lost is found out and given up, both before
/// it is lent and when it comes back.
pub fn pool_options() -> PgPoolOptions {
    PgPoolOptions::new()
        .idle_timeout(IDLE_MAX)
        // A connection that was used a moment ago is there; asking each time doubles the cost of small transactions.
        .test_before_acquire(false)
        .before_acquire(|connection, used| {
            Box::pin(async move {
                if used.idle_for > TRUSTED_IDLE {
                    ping(connection).await?;
                }
                Ok(true)
            })
        })
        // The driver asks as well, without a bound; what was dropped in the middle of a statement is rolled back here.
        .after_release(|connection, _| Box::pin(is(connection, format!("select {IS_FREE}"))))
}

/// Whether no transaction is open. The driver does not know of one whose `begin` was dropped while its answer was under way:
/// whoever got the connection next would write into it, and lose that when it ends.
///
/// In the simple protocol, a statement by itself begins with its transaction, to the microsecond.
const IS_FREE: &str = "now() = statement_timestamp()";

/// Whether tables are looked for in this schema, where it exists and may be entered. The server works out a connection's search path once;
/// where a schema is made at that very moment, it is missing from it for as long as the connection lives (PostgreSQL 15: 33 of 5,700
/// connections whose first statement met a `create schema`).
fn sees(schema: &str) -> String {
    // The schema's name is a constant of the service, never a setting.
    format!(
        "(current_schema() = '{schema}' or not coalesce(has_schema_privilege(to_regnamespace('{schema}')::oid, 'usage'), false))"
    )
}

/// Whether the connection says yes to this question, in SQL without a word of anybody else's in it.
async fn is(connection: &mut PgConnection, question: String) -> sqlx::Result<bool> {
    let asked = sqlx::raw_sql(AssertSqlSafe(question)).fetch_one(connection);
    let row = tokio::time::timeout(PING_MAX, asked)
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))?;
    row.try_get(0)
}

async fn ping(connection: &mut PgConnection) -> sqlx::Result<()> {
    tokio::time::timeout(PING_MAX, connection.ping())
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
}

/// Reads a source while the transaction stands still: as long as this goes on, and no longer, the server lets it stand for
/// `longest` more than the `database.answer_timeout` after which it ends it otherwise.
///
/// # Errors
/// Database errors of the transaction; what the reading says is inside.
pub async fn while_reading<T>(
    tx: &mut Tx,
    longest: Duration,
    reading: impl Future<Output = T>,
) -> sqlx::Result<T> {
    sqlx::query(
        "select set_config('idle_in_transaction_session_timeout', \
         (extract(epoch from current_setting('idle_in_transaction_session_timeout')::interval) * 1000 + $1)::bigint::text, true)",
    )
    .bind(longest.as_secs_f64() * 1000.0)
    .execute(&mut **tx)
    .await?;
    let read = reading.await;
    sqlx::query("set local idle_in_transaction_session_timeout to default")
        .execute(&mut **tx)
        .await?;
    Ok(read)
}

/// Opens one plain connection and closes it: a pool would try until its timeout and then not say why.
async fn knock(options: &PgConnectOptions, within: Duration) -> anyhow::Result<()> {
    match tokio::time::timeout(within, PgConnection::connect_with(options)).await {
        Ok(Ok(connection)) => {
            if let Err(error) = connection.close().await {
                tracing::debug!("the first connection was not closed: {error}");
            }
            Ok(())
        }
        // Such as a server that is just starting: the pool waits for it.
        Ok(Err(sqlx::Error::Database(error))) if error.is_transient_in_connect_phase() => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(anyhow!(
            "no answer within {} s (setting `database.acquire_timeout`)",
            within.as_secs()
        )),
    }
}

/// Listens on a connection of its own: a listener never gives its connection back, so the pool must not lend it one.
///
/// # Errors
/// When the database cannot be reached.
pub(crate) async fn listen(pool: &PgPool, channel: &str) -> sqlx::Result<PgListener> {
    let own = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(pool.options().get_acquire_timeout())
        .connect_lazy_with((*pool.connect_options()).clone());
    let opened = async {
        let mut listener = PgListener::connect_with(&own).await?;
        listener.listen(channel).await?;
        Ok(listener)
    };
    tokio::time::timeout(PING_MAX, opened)
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// Serialization failure or deadlock: two transactions of ours met; one of them simply tries again.
pub(crate) fn is_collision(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<sqlx::Error>())
        .any(|error| match error {
            sqlx::Error::Database(database) => database
                .code()
                .is_some_and(|code| code == "40001" || code == "40P01"),
            _ => false,
        })
}

/// The URL without its password.
pub fn shown_url(url: &str) -> String {
    crate::settings::mask_userinfo(url)
}

/// Creates the schema, then applies the chassis' migrations and the service's own.
///
/// # Errors
/// When a migration fails, or one that was applied has been changed since.
pub async fn migrate(pool: &PgPool, schema: &str, own: &Migrator) -> anyhow::Result<()> {
    let mut connection = pool.acquire().await?;
    // Serialises services that start together; `create schema if not exists` alone can still collide.
    sqlx::query("select pg_advisory_lock($1)")
        .bind(VIEW_LOCK)
        .execute(&mut *connection)
        .await?;
    let result = migrate_locked(&mut connection, schema, own).await;
    sqlx::query("select pg_advisory_unlock($1)")
        .bind(VIEW_LOCK)
        .execute(&mut *connection)
        .await?;
    result
}

/// Migrates, or where `database.migrate` is false looks whether somebody else has.
///
/// # Errors
/// As [`migrate`] and [`check_migrated`].
pub async fn prepare(
    pool: &PgPool,
    settings: &DatabaseSettings,
    schema: &str,
    own: &Migrator,
) -> anyhow::Result<()> {
    let checked = within(START_MAX, check_migrated(pool, schema, own)).await;
    // Tables that are older are brought up to date; a database that does not answer is not.
    if !settings.migrate || checked.as_ref().is_err_and(anyhow::Error::is::<NoAnswer>) {
        return checked;
    }
    let longest = if checked.is_ok() { START_MAX } else { MIGRATE_MAX };
    within(longest, migrate(pool, schema, own))
        .await
        .context("bring the tables up to date")
}

/// Refuses to work on tables that are older than this release.
///
/// # Errors
/// When migrations are missing, with a sentence that says who is to apply them.
pub async fn check_migrated(pool: &PgPool, schema: &str, own: &Migrator) -> anyhow::Result<()> {
    let mut missing = Vec::new();
    for (table, migrator) in [(CHASSIS_MIGRATIONS, &MIGRATOR), ("_sqlx_migrations", own)] {
        // Asked of the catalogue, which answers also about what this role may not enter.
        let (there,): (bool,) = sqlx::query_as(
            "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace \
             where n.nspname = $1 and c.relname = $2)",
        )
        .bind(schema)
        .bind(table)
        .fetch_one(pool)
        .await
        .context("look for the tables of this service")?;
        let applied: Vec<i64> = if there {
            // The schema's name is a constant of the service, never a setting.
            sqlx::query_scalar(AssertSqlSafe(format!(
                "select version from {schema}.{table} where success"
            )))
            .fetch_all(pool)
            .await
            .with_context(|| format!("read {schema}.{table}"))?
        } else {
            Vec::new()
        };
        missing.extend(
            migrator
                .iter()
                .filter(|migration| !applied.contains(&migration.version))
                .map(|migration| format!("{:04} {}", migration.version, migration.description)),
        );
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "schema `{schema}` is older than this release: {} missing ({}); run `vigie provision schemas` as the owner of the tables \
         (setting `database.migrate` is false)",
        if missing.len() == 1 {
            "a migration is"
        } else {
            "migrations are"
        },
        missing.join(", ")
    )
}

async fn migrate_locked(
    connection: &mut sqlx::PgConnection,
    schema: &str,
    own: &Migrator,
) -> anyhow::Result<()> {
    refuse_tables_in_the_way(connection).await?;
    // The schema's name is a constant of the service, never a setting.
    connection
        .execute(AssertSqlSafe(format!("create schema if not exists {schema}")))
        .await?;
    connection
        .execute(AssertSqlSafe(format!("set search_path = {schema}, public")))
        .await?;
    let mut chassis = Migrator::with_migrations(MIGRATOR.iter().cloned().collect());
    chassis.dangerous_set_table_name(CHASSIS_MIGRATIONS);
    let mut own = Migrator::with_migrations(own.iter().cloned().collect());
    // A later release has been here, and its tables hold for this one too: migrations only add (expand, then contract).
    chassis.set_ignore_missing(true);
    own.set_ignore_missing(true);
    chassis
        .run_direct(None, connection, false)
        .await
        .context("migrate the chassis' tables")?;
    own.run_direct(None, connection, false)
        .await
        .with_context(|| format!("migrate schema `{schema}`"))?;
    let view = task_view(connection).await?;
    connection
        .execute(AssertSqlSafe(view))
        .await
        .context("publish airflow_task_metrics")?;
    Ok(())
}

/// A database of the pipelines that Vigie replaces has tables of these names; its rows are not ours to touch.
async fn refuse_tables_in_the_way(connection: &mut sqlx::PgConnection) -> anyhow::Result<()> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class where relnamespace = 'public'::regnamespace \
         and relkind in ('r', 'p', 'f') and relname = any($1) order by 1",
    )
    .bind(&PUBLISHED[..])
    .fetch_all(&mut *connection)
    .await
    .context("look for tables that are in the way")?;
    if tables.is_empty() {
        return Ok(());
    }
    let renamings: Vec<String> = tables
        .iter()
        .map(|table| format!("alter table public.{table} rename to {table}_before;"))
        .collect();
    bail!(
        "the database already has tables under names that Vigie shows its own records by ({}); nothing was changed. Keep their rows \
         under other names and start again: {}",
        tables.join(", "),
        renamings.join(" ")
    )
}

/// `public.airflow_task_metrics`: the union of every service's `task_run`.
async fn task_view(connection: &mut sqlx::PgConnection) -> anyhow::Result<String> {
    let schemas: Vec<(String,)> = sqlx::query_as(
        "select quote_ident(n.nspname) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where c.relname = 'task_run' and c.relkind = 'r' \
         and exists (select from pg_class m where m.relnamespace = n.oid and m.relname = '_chassis_migrations') order by 1",
    )
    .fetch_all(&mut *connection)
    .await?;
    let parts: Vec<String> = schemas
        .iter()
        .map(|(schema,)| {
            format!(
                "select '{schema}/' || task_run_id as id, dag_id, task_id, execution_date, run_id, duration_seconds, \
                 records_processed, records_failed, cpu_percent, memory_mb, status, error_message, started_at, \
                 completed_at from {schema}.task_run"
            )
        })
        .collect();
    Ok(format!(
        "create or replace view public.airflow_task_metrics as {}",
        parts.join(" union all ")
    ))
}
