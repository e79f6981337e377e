//! How long to wait before trying again.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::Rng;

/// Delay before the next publish of an outbox row that failed `attempt` times: 0.2 s, 0.4 s, … 60 s, ± 20 %.
pub fn publish_delay(attempt: u32) -> Duration {
    jittered(publish_step(attempt))
}

/// The same without chance.
pub fn publish_step(attempt: u32) -> Duration {
    Duration::from_millis(200)
        .saturating_mul(2_u32.saturating_pow(attempt.min(16)))
        .min(Duration::from_secs(60))
}

/// Delay before a message is offered again after its `deliveries`-th delivery failed.
pub fn redelivery_delay(deliveries: i64) -> Duration {
    const STEPS: [u64; 7] = [1, 5, 30, 120, 600, 1800, 3600];
    let step = usize::try_from(deliveries.max(1) - 1)
        .unwrap_or(usize::MAX)
        .min(STEPS.len() - 1);
    Duration::from_secs(STEPS[step])
}

/// The delivery at which a message is parked before any handler sees it; seven attempts went before.
pub const DELIVERIES_MAX: i64 = 8;

/// A duration changed by up to 20 % in either direction.
pub fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(rand::rng().random_range(0.8..=1.2))
}

/// Pauses before attempts to connect: they grow while attempts fail, and while connections are made that do not last. Without the second
/// a server that takes every connection and drops it, as a proxy without its server does, is stormed hundreds of times a second.
#[derive(Debug, Default)]
pub struct Reconnecting(Mutex<Short>);

#[derive(Debug, Default)]
struct Short {
    /// When the newest pause that followed upon a connection ended.
    tried: Option<Instant>,
    /// Connections in a row that did not last.
    in_a_row: u32,
}

/// A connection that was held for so long counts as one.
const LASTS: Duration = Duration::from_secs(5);
/// Longest pause before an attempt to connect.
const RECONNECT_MAX: Duration = Duration::from_secs(4);

impl Reconnecting {
    /// The pause before attempt number `attempt` (1 after a connection was lost, then counting) that is about to be made at `now`.
    pub fn pause(&self, attempt: usize, now: Instant) -> Duration {
        let mut short = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = attempt <= 1;
        if is_first {
            let lasted = short.tried.map(|tried| now.saturating_duration_since(tried));
            short.in_a_row = match lasted {
                Some(lasted) if lasted < LASTS => short.in_a_row.saturating_add(1),
                _ => 0,
            };
        }
        let step = u32::try_from(attempt.saturating_sub(1))
            .unwrap_or(u32::MAX)
            .saturating_add(short.in_a_row);
        let pause = match step {
            0 => Duration::ZERO,
            step => Duration::from_millis(2_u64.saturating_pow(step.min(20))).min(RECONNECT_MAX),
        };
        if is_first {
            short.tried = Some(now + pause);
        }
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_lasted_is_made_again_at_once() {
        let (pauses, start) = (Reconnecting::default(), Instant::now());
        for minute in 0..5 {
            let now = start + Duration::from_secs(60 * minute);
            assert_eq!(pauses.pause(1, now), Duration::ZERO);
        }
    }

    #[test]
    fn attempts_that_fail_and_connections_that_do_not_last_are_made_more_and_more_slowly() {
        let failing = Reconnecting::default();
        let now = Instant::now();
        let pauses: Vec<u128> = (1..=20)
            .map(|attempt| failing.pause(attempt, now).as_millis())
            .collect();
        assert_eq!(pauses[..5], [0, 2, 4, 8, 16]);
        assert_eq!(pauses[12..], [4_000; 8]);

        let dropped = Reconnecting::default();
        let (start, mut now, mut attempts) = (Instant::now(), Instant::now(), 0);
        while now < start + Duration::from_secs(10) {
            now += dropped.pause(1, now) + Duration::from_millis(1);
            attempts += 1;
        }
        assert!(attempts <= 15, "{attempts} connections in ten seconds");
        // Peace again.
        now += LASTS * 2;
        assert_eq!(dropped.pause(1, now), Duration::ZERO);
    }

    #[test]
    fn publish_delays_double_up_to_a_minute() {
        for (attempt, seconds) in [(0, 0.2), (1, 0.4), (5, 6.4), (20, 60.0), (u32::MAX, 60.0)] {
            let delay = publish_delay(attempt).as_secs_f64();
            assert!(
                (seconds * 0.8..=seconds * 1.2).contains(&delay),
                "attempt {attempt}: {delay}"
            );
        }
    }

    #[test]
    fn redelivery_delays_grow_and_stay_bounded() {
        assert_eq!(redelivery_delay(1), Duration::from_secs(1));
        assert_eq!(redelivery_delay(DELIVERIES_MAX), Duration::from_secs(3600));
        assert_eq!(redelivery_delay(i64::MAX), Duration::from_secs(3600));
        assert_eq!(redelivery_delay(-5), Duration::from_secs(1));
    }
}
