//! Tests that share a stack do not see each other.

use local_stack::{TestEnv, shared_stack};

use crate::support::{database, jetstream, store_message, stored_message};

#[tokio::test]
async fn each_test_has_its_own_streams_and_database() {
    let (one, other) = (TestEnv::new().await, TestEnv::new().await);
    store_message(&one.nats_url).await;
    // The same stream and subjects, which one account could not hold twice.
    assert!(jetstream(&other.nats_url).await.get_stream("KEPT").await.is_err());
    store_message(&other.nats_url).await;
    assert_eq!(stored_message(&one.nats_url).await, b"payload");

    assert_ne!(one.database_url, other.database_url);
    sqlx::raw_sql("create table mine ()").execute(&mut database(&one.database_url).await).await.unwrap();
    sqlx::raw_sql("create table mine ()").execute(&mut database(&other.database_url).await).await.unwrap();
}

#[tokio::test]
async fn accounts_are_added_when_they_run_out() {
    let stack = shared_stack().await.unwrap();
    let before = TestEnv::new().await;
    store_message(&before.nats_url).await;
    // Far beyond what the stack starts with; not reached by the other tests of this process.
    let url = stack.nats().account_url(700).unwrap();
    store_message(&url).await;
    assert_eq!(stored_message(&before.nats_url).await, b"payload", "the others are untouched");
}

#[tokio::test]
async fn strangers_are_not_let_in() {
    let stack = shared_stack().await.unwrap();
    let error = async_nats::connect(stack.nats_url()).await.unwrap_err().to_string();
    assert!(error.contains("authorization violation"), "{error}");
}
