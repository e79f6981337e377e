//! Spares a way out that is away: after some failures in a row, one attempt now and then finds out whether it is back. Pure.
//!
//! Without it each of a thousand waiting alerts would meet the dead server by itself, and use up its own attempts.

use std::time::{Duration, Instant};

/// Failures in a row after which a way out counts as away.
pub const FAILURES_MAX: u32 = 5;

/// What an attempt says of the way out, whatever became of the alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It answered, be it that it does not take this message.
    Answered,
    /// It asked everybody to wait.
    Busy(Duration),
    /// It did not answer, or not as it should.
    Failed,
}

/// What an attempt changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It counts as away from now on.
    Away,
    /// It is back.
    Back,
}

/// A circuit breaker, of one process: others find out by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    probe_every: Duration,
    failures: u32,
    not_before: Option<Instant>,
}

impl Breaker {
    /// Lets everything through; once the way out is away, one attempt every `probe_every`.
    pub fn new(probe_every: Duration) -> Self {
        Self {
            probe_every,
            failures: 0,
            not_before: None,
        }
    }

    /// Whether an attempt may begin.
    pub fn admits(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|instant| now >= instant)
    }

    /// Whether the way out counts as away.
    pub fn is_away(&self) -> bool {
        self.failures >= FAILURES_MAX
    }

    /// Notes how an attempt ended.
    pub fn note(&mut self, seen: Seen, now: Instant) -> Option<Change> {
        let was_away = self.is_away();
        match seen {
            Seen::Answered => (self.failures, self.not_before) = (0, None),
            Seen::Busy(wait) => (self.failures, self.not_before) = (0, Some(now + wait)),
            Seen::Failed => {
                self.failures = self.failures.saturating_add(1);
                self.not_before = self.is_away().then(|| now + self.probe_every);
            }
        }
        match (was_away, self.is_away()) {
            (false, true) => Some(Change::Away),
            (true, false) => Some(Change::Back),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBE_EVERY: Duration = Duration::from_secs(30);

    /// What each step changes, and for how many seconds after it nothing is admitted.
    fn told(steps: &[Seen]) -> Vec<(Option<Change>, u64)> {
        let mut breaker = Breaker::new(PROBE_EVERY);
        let now = Instant::now();
        let waits = |breaker: &Breaker| {
            (0..3_600)
                .find(|seconds| breaker.admits(now + Duration::from_secs(*seconds)))
                .expect("no wait is longer")
        };
        steps
            .iter()
            .map(|seen| (breaker.note(*seen, now), waits(&breaker)))
            .collect()
    }

    #[test]
    fn five_failures_in_a_row_are_an_outage_and_one_answer_ends_it() {
        use Change::{Away, Back};
        use Seen::{Answered, Busy, Failed};
        let wait = |seconds| Busy(Duration::from_secs(seconds));
        let cases = [
            (vec![Failed; 4], vec![(None, 0); 4]),
            (
                vec![Failed, Failed, Failed, Failed, Failed, Failed],
                vec![
                    (None, 0),
                    (None, 0),
                    (None, 0),
                    (None, 0),
                    (Some(Away), 30),
                    (None, 30),
                ],
            ),
            // A refusal is an answer: in a row means in a row.
            (
                vec![Failed, Failed, Failed, Failed, Answered, Failed],
                vec![(None, 0); 6],
            ),
            (
                vec![Failed, Failed, Failed, Failed, Failed, Answered],
                vec![
                    (None, 0),
                    (None, 0),
                    (None, 0),
                    (None, 0),
                    (Some(Away), 30),
                    (Some(Back), 0),
                ],
            ),
            // Whoever asks to wait is there, and is not asked before.
            (vec![wait(7), Answered], vec![(None, 7), (None, 0)]),
            (
                vec![Failed, Failed, Failed, Failed, Failed, wait(90)],
                vec![
                    (None, 0),
                    (None, 0),
                    (None, 0),
                    (None, 0),
                    (Some(Away), 30),
                    (Some(Back), 90),
                ],
            ),
        ];
        for (steps, expected) in cases {
            assert_eq!(told(&steps), expected, "{steps:?}");
        }
    }
}
