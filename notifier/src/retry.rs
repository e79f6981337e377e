//! What follows a failed attempt: another one later, or the end. Pure.

use std::time::Duration;

use crate::outlet::SendError;

/// How patient delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, 1 or more.
    pub attempts_max: u32,
    /// Wait after the first failure; doubles with each further one.
    pub backoff_first: Duration,
    /// Longest wait.
    pub backoff_max: Duration,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// Try again after this long.
    Again {
        /// The wait.
        after: Duration,
    },
    /// No further attempt: the reason for people.
    GiveUp {
        /// Why.
        reason: String,
    },
}

/// Decides after attempt number `attempt` (from 1) failed.
///
/// `jitter` in 0 to 1 spreads the waits by ±20 %, so that many alerts do not come back at once.
pub fn next(policy: &RetryPolicy, attempt: u32, error: &SendError, jitter: f64) -> Next {
    match error {
        SendError::Permanent(_) | SendError::Impossible(_) => Next::GiveUp {
            reason: error.to_string(),
        },
        SendError::Transient(_) | SendError::Deferred(_) | SendError::Throttled { .. }
            if attempt >= policy.attempts_max =>
        {
            Next::GiveUp {
                reason: format!("gave up after {attempt} attempts; the last: {error}"),
            }
        }
        SendError::Transient(_) | SendError::Deferred(_) => Next::Again {
            after: backoff(policy, attempt, jitter),
        },
        // Never sooner than asked.
        SendError::Throttled { after, .. } => Next::Again {
            after: backoff(policy, attempt, jitter).max(*after),
        },
    }
}

fn backoff(policy: &RetryPolicy, attempt: u32, jitter: f64) -> Duration {
    let doubled = policy
        .backoff_first
        .saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled
        .min(policy.backoff_max)
        .mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        attempts_max: 5,
        backoff_first: Duration::from_secs(10),
        backoff_max: Duration::from_mins(1),
    };

    #[test]
    fn failures_are_retried_by_class() {
        let transient = || SendError::Transient("down".to_owned());
        let permanent = || SendError::Permanent("no such user".to_owned());
        let throttled = |seconds| SendError::Throttled {
            after: Duration::from_secs(seconds),
            reason: String::new(),
        };
        // attempt  error          wait in seconds at the middle of the jitter, None = give up
        let cases = [
            (1, transient(), Some(10)),
            (2, transient(), Some(20)),
            (3, transient(), Some(40)),
            (4, transient(), Some(60)), // bounded
            (5, transient(), None),     // attempts exhausted
            (1, permanent(), None),
            (1, SendError::Impossible("no way out".to_owned()), None),
            (2, SendError::Deferred("full".to_owned()), Some(20)),
            (5, SendError::Deferred("full".to_owned()), None),
            (1, throttled(30), Some(30)),
            (3, throttled(30), Some(40)), // the longer of the two
            (5, throttled(30), None),
        ];
        for (attempt, error, wait) in cases {
            let after = match next(&POLICY, attempt, &error, 0.5) {
                Next::Again { after } => Some(after.as_secs()),
                Next::GiveUp { .. } => None,
            };
            assert_eq!(after, wait, "attempt {attempt}, {error}");
        }
    }

    #[test]
    fn waits_spread_by_a_fifth_and_never_overflow() {
        assert_eq!(backoff(&POLICY, 1, 0.0), Duration::from_secs(8));
        assert_eq!(backoff(&POLICY, 1, 1.0), Duration::from_secs(12));
        assert_eq!(backoff(&POLICY, u32::MAX, 0.5), Duration::from_mins(1));
    }
}
