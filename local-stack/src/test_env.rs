//! One PostgreSQL per test process, and on it an empty database for each test; and a broker for each test.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::OnceCell;

use crate::{NatsServer, Stack, StackOptions};

/// The stack that all tests of this process share, started at the first call with [`StackOptions::for_tests`].
///
/// The end of a test process drops no statics: the watchdog stops the servers then. A test that kills PostgreSQL must
/// start a [`Stack`] of its own.
///
/// # Errors
/// As [`Stack::start`].
pub async fn shared_stack() -> anyhow::Result<&'static Stack> {
    static SHARED: OnceCell<Stack> = OnceCell::const_new();
    SHARED
        .get_or_try_init(|| Stack::start(StackOptions::for_tests()))
        .await
}

/// What one test may use: nobody else sees its database, subjects and streams. Dropping it stops the broker and drops
/// the database, so keep it to the end of the test.
///
/// The subjects are fixed names and clients ignore a password in a URL, so each test has a broker of its own rather than
/// an account: it starts in a fifth of a second, takes 14 MB and may be killed without harm to others.
#[derive(Debug)]
#[non_exhaustive]
pub struct TestEnv {
    /// `nats://127.0.0.1:PORT`: a broker with JetStream and no streams yet.
    pub nats_url: String,
    /// `postgres://vigie@127.0.0.1:PORT/NAME`: an empty database, as a superuser.
    pub database_url: String,
    /// The test's own broker, which it may kill and restart.
    pub nats: NatsServer,
    /// The stack that holds the database. Shared: it must not be harmed.
    pub stack: &'static Stack,
    name: String,
}

impl TestEnv {
    /// A fresh environment on the shared stack.
    ///
    /// # Panics
    /// When the servers cannot be started: no test can go on without them.
    pub async fn new() -> Self {
        match Self::try_new().await {
            Ok(env) => env,
            Err(error) => panic!("no servers for the test: {error:#}"),
        }
    }

    /// A fresh environment on the shared stack.
    ///
    /// # Errors
    /// As [`Stack::start`].
    pub async fn try_new() -> anyhow::Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let stack = shared_stack().await?;
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let (nats, database_url) = tokio::try_join!(stack.start_nats(&name), stack.create_database(&name))?;
        Ok(Self {
            nats_url: nats.url(),
            database_url,
            nats,
            stack,
            name,
        })
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        // A test's own runtime must not be blocked on itself; and its end would not wait for a task.
        let stack = self.stack;
        let name = &self.name;
        let dropped = std::thread::scope(|scope| {
            let drop_database = || -> anyhow::Result<()> {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                runtime.block_on(stack.postgres().drop_database(name))
            };
            scope.spawn(drop_database).join()
        });
        match dropped {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("local-stack: {error:#}"),
            Err(_) => eprintln!("local-stack: dropping the database `{name}` panicked"),
        }
        if let Err(error) = self
            .nats
            .kill()
            .and_then(|()| Ok(std::fs::remove_dir_all(stack.folder().join(name))?))
        {
            eprintln!("local-stack: stop the broker of `{name}`: {error:#}");
        }
    }
}
