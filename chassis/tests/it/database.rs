//! The way to PostgreSQL.

use std::time::Duration;

use chassis::Secret;
use chassis::db::{self, DatabaseSettings};
use sqlx::{Executor as _, PgPool};

use crate::support::{Bench, eventually};

#[tokio::test]
async fn a_refused_connection_is_told_as_refused() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let settings = DatabaseSettings {
        url: Secret::new(format!("postgres://vigie:canary@{address}/fraud_db")),
        connections_max: 2,
        acquire_timeout: Duration::from_secs(1),
        answer_timeout: Duration::from_secs(15),
        migrate: true,
    };
    let error = db::connect(&settings, "test", "test").await.unwrap_err();
    let told = format!("{error:#}");
    assert!(
        told.contains("refused") && told.contains(&address.to_string()) && !told.contains("canary"),
        "{told}"
    );
}

/// Which backend serves this connection.
async fn backend(connection: &mut sqlx::PgConnection) -> i32 {
    let (pid,): (i32,) = sqlx::query_as("select pg_backend_pid()")
        .fetch_one(connection)
        .await
        .unwrap();
    pid
}

async fn is_there(pool: &PgPool, pid: i32) -> bool {
    let (there,): (bool,) = sqlx::query_as(
        "select exists (select from pg_stat_activity where pid = $1 and datname = current_database())",
    )
    .bind(pid)
    .fetch_one(pool)
    .await
    .unwrap();
    there
}

/// As the server leaves a connection whose search path it worked out while the schema was being made.
#[tokio::test]
async fn a_connection_that_looks_past_the_schema_is_not_lent_again() {
    let bench = Bench::new().await;
    let pool = bench.replica().await.pool;
    let (mut sound, mut blind) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    let (sound_pid, blind_pid) = (backend(&mut sound).await, backend(&mut blind).await);
    blind.execute("set search_path to public").await.unwrap();
    assert!(
        blind.execute("select from effect").await.is_err(),
        "it sees no table of the service"
    );
    drop((sound, blind));
    eventually(
        "the connection that looked past the schema is closed",
        async || (!is_there(&pool, blind_pid).await).then_some(()),
    )
    .await;
    assert!(is_there(&pool, sound_pid).await, "the other one is kept");
}

/// Before the first migration.
#[tokio::test]
async fn where_there_is_no_schema_to_see_connections_are_kept() {
    let bench = Bench::new().await;
    let settings = bench.database_settings(&bench.env.database_url);
    let pool = db::connect(&settings, "toy", "toy").await.unwrap();
    let mut first = pool.acquire().await.unwrap();
    let pid = backend(&mut first).await;
    drop(first);
    eventually("the connection is back", async || {
        (pool.num_idle() > 0).then_some(())
    })
    .await;
    assert!(is_there(&pool, pid).await);
}
