//! PostgreSQL goes down, throws people out, takes no writes and lets nobody in.

use rand::Rng as _;
use sqlx::{AssertSqlSafe, PgConnection};
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
        // One connection for all of it: it is the way back.
        let mut connection = world.pool.acquire().await?;
        Ok(match kind {
            Kind::DatabaseReadOnly => {
                // Sessions that are open hear of it too.
                run(
                    &mut connection,
                    &[
                        "alter system set default_transaction_read_only = on",
                        "select pg_reload_conf()",
                    ],
                )
                .await?;
                tokio::time::sleep(time).await;
                run(
                    &mut connection,
                    &[
                        "alter system reset default_transaction_read_only",
                        "select pg_reload_conf()",
                    ],
                )
                .await?;
                format!("for {} ms", time.as_millis())
            }
            Kind::LoginsRefused => {
                run(&mut connection, &["alter role vigie nologin"]).await?;
                let ended = end_backends(&mut connection, service).await?;
                tokio::time::sleep(time).await;
                run(&mut connection, &["alter role vigie login"]).await?;
                format!("{ended} of {service} thrown out, for {} ms", time.as_millis())
            }
            _ => {
                let ended = end_backends(&mut connection, service).await?;
                format!("{ended} of {service}")
            }
        })
    }
}

async fn run(connection: &mut PgConnection, statements: &[&'static str]) -> sqlx::Result<()> {
    for statement in statements {
        sqlx::query(*statement).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn end_backends(connection: &mut PgConnection, service: &str) -> sqlx::Result<i64> {
    let query = format!(
        "select count(*) from (select pg_terminate_backend(pid) from pg_stat_activity \
         where application_name like '%{service}%' and pid <> pg_backend_pid()) ended"
    );
    let (count,): (i64,) = sqlx::query_as(AssertSqlSafe(query)).fetch_one(connection).await?;
    Ok(count)
}
