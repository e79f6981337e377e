//! How long to wait before trying again.

use std::time::Duration;

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

#[cfg(test)]
mod tests {
    use super::*;

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
