//! The rules of delivery, pure: no clock, no I/O, no randomness.
//!
//! The relay, the comparison of brokers, the sweep and the consumer are shells around these. The tests put the same
//! functions through schedules of crashes and losses that no real broker can be asked for. Rules that are conditions of
//! an `update` stand in the SQL of the shells; the tests compare that SQL with their mirror.

use std::time::Duration;

use uuid::Uuid;

use crate::backoff::{DELIVERIES_MAX, redelivery_delay};

/// How far back a restarted broker may have lost acknowledged events, counted from when it was last seen alive: twice the
/// default interval between two of its writes to disk (2 min), and a minute more.
pub const LOST_SPAN: Duration = Duration::from_secs(300);
/// Offers without a receipt after which a person must look.
pub const OFFERS_MAX: i32 = 10;

/// The id by which the broker alone de-duplicates: a deliberate re-offer needs a new one and the same `ce-id`.
pub fn message_id(event: Uuid, redriven: i32, offer: i32) -> String {
    let mut id = event.to_string();
    for (mark, times) in [('d', redriven), ('r', offer)] {
        if times > 0 {
            id = format!("{id}#{mark}{times}");
        }
    }
    id
}

/// Whether a publish ack proves that the stream begins anew: a new message is not behind the highest number it gave before.
pub const fn begins_anew(fresh: bool, stream_seq: i64, highest: i64) -> bool {
    fresh && stream_seq <= highest
}

/// How often the broker is compared on a connection that stays up. A stream that was made again under it betrays itself by its
/// numbers, unless others have published past them before.
const COMPARED_EVERY: Duration = Duration::from_secs(60);

/// Whether the broker must be compared before anything is published; it was on this or another connection, this long ago.
pub fn is_comparison_due(same_connection: bool, ago: Duration) -> bool {
    !same_connection || ago >= COMPARED_EVERY
}

/// Where a reader stands in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// First message that the stream holds.
    pub first: u64,
    /// Last message that the stream holds.
    pub last: u64,
    /// Everything up to here was acknowledged; 0 for a reader without a consumer, which will begin at the first message.
    pub acknowledged: u64,
    /// Messages for this reader that it was not given or has not answered, count; `None` for a reader without a consumer.
    pub waiting: Option<u64>,
}

impl Position {
    /// Whether the message still waits at the broker for this reader. A number alone does not prove it: in a stream that began
    /// again, a message of somebody else may have it, which this reader will never acknowledge.
    pub fn holds(self, stream_seq: Option<i64>) -> bool {
        stream_seq.is_some_and(|seq| {
            let seq = seq.unsigned_abs();
            (self.first..=self.last).contains(&seq) && seq > self.acknowledged && self.waiting != Some(0)
        })
    }
}

/// Whether an event without a receipt is offered once more, or left to a person.
pub const fn is_offered_again(offers: i32) -> bool {
    offers < OFFERS_MAX
}

/// Whether a message was delivered so often that it is parked before it is handled once more, unless it has its receipt.
pub const fn is_exhausted(deliveries: i64) -> bool {
    deliveries >= DELIVERIES_MAX
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    /// Its effects are committed.
    Done,
    /// They were before.
    Duplicate,
    /// No retry can help.
    Parked,
    /// It is none that this service reads.
    Foreign,
    /// The world may recover.
    Again,
    /// The connection died during the commit: nobody knows.
    CommitUnknown,
}

/// What the broker is told about a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is dealt with, for good.
    Ack,
    /// Offer it again after this long.
    Again(Duration),
    /// Nothing: the redelivery finds out.
    Silence,
}

/// The answer to a delivery, which was the `deliveries`-th of its message.
pub fn answer(became: Became, deliveries: i64) -> Answer {
    match became {
        Became::Done | Became::Duplicate | Became::Parked | Became::Foreign => Answer::Ack,
        Became::Again => Answer::Again(redelivery_delay(deliveries)),
        Became::CommitUnknown => Answer::Silence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_at_the_broker_is_left_alone() {
        let position = Position {
            first: 10,
            last: 20,
            acknowledged: 15,
            waiting: Some(5),
        };
        for (seq, waits) in [
            (None, false),
            (Some(9), false),  // the stream dropped it
            (Some(15), false), // acknowledged, and yet without a receipt
            (Some(16), true),
            (Some(20), true),
            (Some(21), false), // the stream lost its tail
        ] {
            assert_eq!(position.holds(seq), waits, "{seq:?}");
        }
        let idle = Position {
            waiting: Some(0),
            ..position
        };
        assert!(
            !idle.holds(Some(16)),
            "nothing waits, so the number is somebody else's"
        );
        let to_come = Position {
            acknowledged: 0,
            waiting: None,
            ..position
        };
        assert!(
            to_come.holds(Some(16)),
            "a reader without a consumer begins at the first message"
        );
    }

    #[test]
    fn every_deliberate_offer_has_a_message_id_of_its_own() {
        let event = Uuid::nil();
        let ids =
            [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 1), (12, 0)].map(|(d, r)| message_id(event, d, r));
        let different: std::collections::BTreeSet<&String> = ids.iter().collect();
        assert_eq!(different.len(), ids.len(), "{ids:?}");
        assert_eq!(ids[0], event.to_string());
    }
}
