//! One stack per test process, and on it an empty database and a NATS account for each test.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use tokio::sync::OnceCell;

use crate::{Stack, StackOptions};

/// The stack that all tests of this process share, started at the first call with [`StackOptions::for_tests`].
///
/// The end of a test process drops no statics: the watchdog stops the servers then. A test that kills a server must
/// start a [`Stack`] of its own.
///
/// # Errors
/// As [`Stack::start`].
pub async fn shared_stack() -> anyhow::Result<&'static Stack> {
    static SHARED: OnceCell<Stack> = OnceCell::const_new();
    SHARED.get_or_try_init(|| Stack::start(StackOptions::for_tests())).await
}

/// What one test may use: nobody else sees its database, subjects and streams.
#[derive(Debug)]
#[non_exhaustive]
pub struct TestEnv {
    /// Connects to a NATS account of its own (user and password are in it), with JetStream and no streams yet.
    pub nats_url: String,
    /// Connects to an empty database of its own, as a superuser.
    pub database_url: String,
    /// The stack behind both.
    pub stack: &'static Stack,
}

impl TestEnv {
    /// A fresh environment on the shared stack.
    ///
    /// # Panics
    /// When the servers cannot be started: no test can go on without them.
    #[expect(clippy::new_without_default, reason = "it starts servers")]
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
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let database_url = stack.create_database(&format!("test_{number}")).await?;
        let account = tokio::task::spawn_blocking(move || stack.nats().account_url(number));
        let nats_url = account.await.context("the task that adds NATS accounts panicked")??;
        Ok(Self { nats_url, database_url, stack })
    }
}
