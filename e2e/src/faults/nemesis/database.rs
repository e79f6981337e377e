//! PostgreSQL goes down, throws people out, takes no writes and lets nobody in.

use rand::Rng as _;
use sqlx::{AssertSqlSafe, PgConnection, PgExecutor, PgPool};
use vigie::host::SERVICES;

use super::{Kind, Nemesis};
use crate::faults::world::World;

impl Nemesis {
    pub(super) async fn database(&mut self, kind: Kind, world: &World) -> anyhow::Result<String> {
        if kind == Kind::DatabaseKilled {
            let away = self.milliseconds(0, 400);
            tokio::task::block_in_place(|| {
                world.stack.postgres().stop()?;
                std::thread::sleep(away);
                world.stack.postgres().restart()
            })?;
            return Ok(format!("{} ms away", away.as_millis()));
        }
        let service = SERVICES[self.rng.random_range(0..SERVICES.len())];
        let time = self.milliseconds(200, 3_000);
        let (away, back, detail) = match kind {
            Kind::DatabaseReadOnly => (READ_ONLY, WRITABLE, format!("for {} ms", time.as_millis())),
            Kind::LoginsRefused => (
                LOGINS_REFUSED,
                LOGINS_TAKEN,
                format!("{service} is thrown out, for {} ms", time.as_millis()),
            ),
            _ => {
                let ended = end_backends(&world.pool, service).await?;
                return Ok(if ended == 0 {
                    format!("nothing: {service} is not there")
                } else {
                    format!("{ended} of {service}")
                });
            }
        };
        // The way back needs a connection that is let in.
        let mut connection = world.pool.acquire().await?;
        run(&mut connection, away).await?;
        if kind == Kind::LoginsRefused {
            end_backends(&mut *connection, service).await?;
        }
        tokio::time::sleep(time).await;
        run(&mut connection, back).await?;
        Ok(detail)
    }
}

/// Sessions that are open hear of it too.
const READ_ONLY: &[&str] = &[
    "alter system set default_transaction_read_only = on",
    "select pg_reload_conf()",
];
const WRITABLE: &[&str] = &[
    "alter system reset default_transaction_read_only",
    "select pg_reload_conf()",
];
const LOGINS_REFUSED: &[&str] = &["alter role vigie nologin"];
const LOGINS_TAKEN: &[&str] = &["alter role vigie login"];

/// Undoes what a fault may have left behind.
///
/// # Errors
/// Database errors.
pub async fn heal(pool: &PgPool) -> sqlx::Result<()> {
    let mut connection = pool.acquire().await?;
    run(&mut connection, WRITABLE).await?;
    run(&mut connection, LOGINS_TAKEN).await
}

async fn run(connection: &mut PgConnection, statements: &[&'static str]) -> sqlx::Result<()> {
    for statement in statements {
        sqlx::query(*statement).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn end_backends(database: impl PgExecutor<'_>, service: &str) -> sqlx::Result<i64> {
    let query = format!(
        "select count(*) from (select pg_terminate_backend(pid) from pg_stat_activity \
         where application_name like '%{service}%' and pid <> pg_backend_pid()) ended"
    );
    let (count,): (i64,) = sqlx::query_as(AssertSqlSafe(query)).fetch_one(database).await?;
    Ok(count)
}
