//! Start, stop, restart and kill.

use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::PathBuf;

use local_stack::{Durability, Stack, StackOptions};
use sqlx::{AssertSqlSafe, Connection as _};

use crate::support::{database, eventually, runs_below, store_message, stored_message};

/// Quick to start.
fn quick() -> StackOptions {
    StackOptions::for_tests()
}

#[tokio::test]
async fn a_stack_serves_and_stopping_leaves_nothing() {
    let stack = Stack::start(StackOptions::default()).await.unwrap();
    store_message(&stack.nats_url()).await;
    assert_eq!(stored_message(&stack.nats_url()).await, b"payload");

    let mut connection = database(&stack.database_url()).await;
    let fsync: String = sqlx::query_scalar("show fsync")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(fsync, "on", "the default is durable");
    let version: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(version >= 150_000, "{version}");
    let config = std::fs::read_to_string(stack.folder().join("nats/nats.conf")).unwrap();
    assert!(config.contains("sync_interval: always"), "{config}");

    let folder = stack.folder().to_owned();
    assert!(runs_below(&folder), "the check below can tell");
    // The open connection must not hold it up.
    stack.stop().await.unwrap();
    assert!(!runs_below(&folder));
    assert!(!folder.exists());
}

#[tokio::test]
async fn postgres_never_runs_as_root() {
    let stack = Stack::start(quick()).await.unwrap();
    let pid = stack.postgres().pid().unwrap();
    let uid = std::fs::metadata(format!("/proc/{pid}")).unwrap().uid();
    assert_ne!(uid, 0);
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn several_stacks_start_at_once() {
    let starts = (0..3).map(|_| tokio::spawn(Stack::start(quick())));
    let mut stacks = Vec::new();
    for start in starts.collect::<Vec<_>>() {
        stacks.push(start.await.unwrap().unwrap());
    }
    for (number, stack) in stacks.iter().enumerate() {
        let mut connection = database(&stack.database_url()).await;
        let table = format!("create table only_in_{number} ()");
        sqlx::raw_sql(AssertSqlSafe(table))
            .execute(&mut connection)
            .await
            .unwrap();
        let tables: i64 = sqlx::query_scalar("select count(*) from pg_tables where schemaname = 'public'")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(tables, 1, "each has its own database");
        store_message(&stack.nats_url()).await;
    }
    for stack in stacks {
        stack.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_kept_folder_keeps_its_data() {
    let parent = tempfile::tempdir().unwrap();
    std::fs::set_permissions(parent.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // A path that no unix socket would fit in, with what shells and settings files stumble over.
    let folder = parent
        .path()
        .join(format!("{}it's a \"$folder\"", "deep ".repeat(30)));

    let stack = Stack::start(StackOptions::kept_in(&folder)).await.unwrap();
    store_message(&stack.nats_url()).await;
    let mut connection = database(&stack.database_url()).await;
    sqlx::raw_sql("create table kept (n int); insert into kept values (7)")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    stack.stop().await.unwrap();
    assert!(folder.exists());
    assert!(!runs_below(&folder));

    let stack = Stack::start(StackOptions::kept_in(&folder)).await.unwrap();
    assert_eq!(stored_message(&stack.nats_url()).await, b"payload");
    let mut connection = database(&stack.database_url()).await;
    let n: i32 = sqlx::query_scalar("select n from kept")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(n, 7);
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn a_folder_of_another_postgres_version_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    let options = || StackOptions {
        folder: Some(folder.clone()),
        ..quick()
    };
    Stack::start(options()).await.unwrap().stop().await.unwrap();
    std::fs::write(folder.join("postgres/data/PG_VERSION"), "9\n").unwrap();
    let refusal = format!("{:#}", Stack::start(options()).await.unwrap_err());
    assert!(
        refusal.contains("was made by PostgreSQL 9") && refusal.contains("set VIGIE_PG_BIN"),
        "{refusal}"
    );
    assert!(!runs_below(&folder), "the broker was stopped again");
}

#[tokio::test]
async fn an_interrupted_initdb_is_begun_again() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    std::fs::create_dir_all(folder.join("postgres/data/base")).unwrap();
    let options = StackOptions {
        folder: Some(folder),
        ..quick()
    };
    Stack::start(options).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_folder_that_only_we_may_enter_will_do() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("private");
    std::fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
    for _ in 0..2 {
        let options = StackOptions {
            folder: Some(folder.clone()),
            ..quick()
        };
        let stack = Stack::start(options).await.unwrap();
        database(&stack.database_url()).await.close().await.unwrap();
        stack.stop().await.unwrap();
    }
}

#[tokio::test]
async fn one_folder_carries_one_stack() {
    let parent = tempfile::tempdir().unwrap();
    let options = StackOptions {
        folder: Some(parent.path().join("data")),
        ..quick()
    };
    let stack = Stack::start(options.clone()).await.unwrap();
    let refusal = Stack::start(options).await.unwrap_err().to_string();
    assert!(refusal.contains("another stack runs on"), "{refusal}");
    database(&stack.database_url()).await.close().await.unwrap();
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn killed_servers_come_back_on_port_and_data() {
    let stack = Stack::start(quick()).await.unwrap();
    let urls = (stack.nats_url(), stack.database_url());
    store_message(&stack.nats_url()).await;
    let mut connection = database(&stack.database_url()).await;
    sqlx::raw_sql("create table kept (n int); insert into kept values (7)")
        .execute(&mut connection)
        .await
        .unwrap();

    let before = (stack.nats().pid().unwrap(), stack.postgres().pid().unwrap());
    let stack = std::sync::Arc::new(stack);
    for round in 0..2 {
        let ours = stack.clone();
        tokio::task::spawn_blocking(move || {
            ours.nats().kill().unwrap();
            ours.postgres().kill().unwrap();
            assert_eq!((ours.nats().pid(), ours.postgres().pid()), (None, None));
            ours.nats().restart().unwrap();
            ours.postgres().restart().unwrap();
        })
        .await
        .unwrap();
        assert_eq!((stack.nats_url(), stack.database_url()), urls, "round {round}");
        assert_eq!(stored_message(&stack.nats_url()).await, b"payload");
        let mut connection = database(&stack.database_url()).await;
        let n: i32 = sqlx::query_scalar("select n from kept")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(n, 7);
    }
    let after = (stack.nats().pid().unwrap(), stack.postgres().pid().unwrap());
    assert!(before.0 != after.0 && before.1 != after.1);
    std::sync::Arc::into_inner(stack).unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_lost_broker_disk_is_empty() {
    let stack = Stack::start(quick()).await.unwrap();
    store_message(&stack.nats_url()).await;
    let refusal = stack.nats().lose_disk().unwrap_err().to_string();
    assert!(refusal.contains("kill or stop it"), "{refusal}");
    stack.nats().kill().unwrap();
    stack.nats().lose_disk().unwrap();
    stack.nats().restart().unwrap();
    // Would be refused if the stream were still there with a message.
    store_message(&stack.nats_url()).await;
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn a_panic_leaves_nothing() {
    let (tell, told) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let stack = Stack::start(quick()).await.unwrap();
        tell.send(stack.folder().to_owned()).unwrap();
        panic!("as a failing test does");
    });
    let folder: PathBuf = told.await.unwrap();
    assert!(task.await.unwrap_err().is_panic());
    eventually("the panicked owner's servers are gone", || {
        !runs_below(&folder) && !folder.exists()
    })
    .await;
}

#[tokio::test]
async fn a_taken_port_is_named_with_the_log() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();

    let error = Stack::start(StackOptions {
        postgres_port: Some(port),
        ..quick()
    })
    .await
    .unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("PostgreSQL ended while starting"), "{error}");
    assert!(error.contains("Address already in use"), "{error}");

    let error = Stack::start(StackOptions {
        nats_port: Some(port),
        ..quick()
    })
    .await
    .unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("nats-server ended while starting"), "{error}");
    assert!(error.contains("address already in use"), "{error}");
}

#[tokio::test]
async fn databases_are_made_copied_and_dropped() {
    let stack = Stack::start(quick()).await.unwrap();
    let template = stack.create_database("prepared").await.unwrap();
    let mut connection = database(&template).await;
    sqlx::raw_sql("create table kept (n int); insert into kept values (7)")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();

    let copy = stack
        .create_database_from_template("copy", "prepared")
        .await
        .unwrap();
    let mut connection = database(&copy).await;
    let n: i32 = sqlx::query_scalar("select n from kept")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(n, 7);

    stack.postgres().drop_database("copy").await.unwrap();
    let error = sqlx::PgConnection::connect(&copy).await.unwrap_err().to_string();
    assert!(error.contains("does not exist"), "{error}");

    for name in ["", "Upper", "semi;colon", "1st", &"x".repeat(64)] {
        let error = stack.create_database(name).await.unwrap_err().to_string();
        assert!(error.contains("database name"), "{name}: {error}");
    }
    stack.stop().await.unwrap();
}

#[test]
fn tests_do_not_pay_for_durability() {
    let options = StackOptions::for_tests();
    assert_eq!(options.durability, Durability::Fast);
    assert!(!options.nats_sync_always);
}
