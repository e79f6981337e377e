//! A worker keeps its connection from one delivery to the next.
//!
//! A pool asks two questions of what comes back to it, which is more than a duplicate costs altogether.

use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres, Transaction};

use crate::db::Tx;

/// The connection between two deliveries; none when it is in use, was given back, or broke.
#[derive(Debug)]
pub(super) struct Lane {
    pool: PgPool,
    kept: Option<PoolConnection<Postgres>>,
}

impl Lane {
    pub(super) const fn new(pool: PgPool) -> Self {
        Self { pool, kept: None }
    }

    /// The connection, to be [kept](Lane::keep) once its statement was answered. One that is dropped before goes back to the
    /// pool, which finds out what was left open.
    pub(super) async fn take(&mut self) -> sqlx::Result<PoolConnection<Postgres>> {
        match self.kept.take() {
            Some(connection) => Ok(connection),
            None => self.pool.acquire().await,
        }
    }

    /// For the next statement.
    pub(super) fn keep(&mut self, connection: PoolConnection<Postgres>) {
        self.kept = Some(connection);
    }

    /// A transaction on the connection, which goes back to the pool with it.
    pub(super) async fn begin(&mut self) -> sqlx::Result<Tx> {
        Transaction::begin(self.take().await?, None).await
    }

    /// To the pool: nothing is to be done, or it has not been used for a while.
    pub(super) fn give_back(&mut self) {
        self.kept = None;
    }
}
