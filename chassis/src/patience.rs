//! No wait for a server is for ever.
//!
//! An answer can be lost while its connection stands: the server has spoken, or is gone without a word, and whoever waits
//! would wait until somebody restarts it. So every look at a server, every round of a loop and every delivery has a bound.
//! What was begun is dropped with its transaction and begun again; each statement of ours can be.
//!
//! From the other end PostgreSQL is told how long a transaction of ours may stand still (`database.answer_timeout`), so that
//! what a frozen or unreachable process holds is free again for its replicas.

use std::future::Future;
use std::time::Duration;

/// Longest round of a loop that may look at or change many rows.
pub const ROUND_MAX: Duration = Duration::from_secs(300);
/// Longest start with tables that are as they should be.
pub(crate) const START_MAX: Duration = Duration::from_secs(120);
/// Longest start with migrations, which may build indices.
pub(crate) const MIGRATE_MAX: Duration = Duration::from_secs(3600);
/// Answers that a delivery, or the work on a slot, may wait for as long as for one that is just in time.
const ANSWERS_MAX: u32 = 4;
/// Sources that it may read one after the other.
const READINGS_MAX: u32 = 10;

/// A server did not answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs())]
pub struct NoAnswer(pub Duration);

/// Waits for `work`, but no longer than `longest`; then it is dropped, and its transaction with it.
///
/// # Errors
/// Those of `work`, or [`NoAnswer`].
pub fn within<T, E: Into<anyhow::Error>>(
    longest: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = anyhow::Result<T>> {
    // On the heap: work that talks to a database is large, and would be moved into each wait around it.
    let work = Box::pin(work);
    async move {
        match tokio::time::timeout(longest, work).await {
            Ok(result) => result.map_err(Into::into),
            Err(_) => Err(NoAnswer(longest).into()),
        }
    }
}

/// Longest handling of a delivery, or work on a slot, by the longest wait for an answer and the longest reading of a source.
pub(crate) fn longest(answer: Duration, reading: Duration) -> Duration {
    answer * ANSWERS_MAX + reading * READINGS_MAX
}
