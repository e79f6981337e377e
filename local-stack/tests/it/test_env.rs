//! Tests of one process do not see each other.

use local_stack::{TestEnv, shared_stack};

use crate::support::{database, jetstream, runs_below, store_message, stored_message};

#[tokio::test]
async fn each_test_has_its_own_streams_and_database() {
    let (one, other) = (TestEnv::new().await, TestEnv::new().await);
    store_message(&one.nats_url).await;
    assert!(jetstream(&other.nats_url).await.get_stream("KEPT").await.is_err());

    // One broker can be lost without the other.
    other.nats.kill().unwrap();
    assert_eq!(stored_message(&one.nats_url).await, b"payload");
    other.nats.restart().unwrap();
    store_message(&other.nats_url).await;

    assert_ne!(one.database_url, other.database_url);
    sqlx::raw_sql("create table mine ()")
        .execute(&mut database(&one.database_url).await)
        .await
        .unwrap();
    sqlx::raw_sql("create table mine ()")
        .execute(&mut database(&other.database_url).await)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_end_of_a_test_frees_what_it_had() {
    let env = TestEnv::new().await;
    let (database_url, pid) = (env.database_url.clone(), env.nats.pid().unwrap());
    let folder = env.nats.log().parent().unwrap().to_owned();
    assert!(runs_below(&folder), "the check below can tell");
    // A pool that nobody closed does not hold it up.
    let _open = database(&database_url).await;
    drop(env);

    assert!(!runs_below(&folder), "broker {pid} runs on");
    assert!(!folder.exists());
    let name = database_url.rsplit('/').next().unwrap();
    let mut connection = database(&shared_stack().await.unwrap().database_url()).await;
    let there: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(name)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(!there);
}
