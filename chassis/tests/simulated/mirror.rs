//! The rules that stand in SQL, once more in Rust: the simulation uses these, and a test against PostgreSQL compares the two.

use std::time::Duration;

use chassis::rules::LOST_SPAN;
use uuid::Uuid;

/// A row of an outbox; instants in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub event: Uuid,
    pub seq: i64,
    pub kind: usize,
    pub dead: bool,
    pub next_at: i64,
    pub attempt: i32,
    pub offer: i32,
    pub published_at: Option<i64>,
    pub stream_seq: Option<i64>,
    pub confirmed: bool,
    pub failed: bool,
}

impl Row {
    /// The relay may publish it.
    pub fn is_claimable(&self, now: i64) -> bool {
        self.published_at.is_none() && !self.failed && self.next_at <= now
    }

    /// What a comparison of brokers makes of it; `None` when nothing. A broker that is `gone` was last seen alive then.
    pub fn compared(&self, gone: Option<i64>, last: u64, looked_at: i64, now: i64) -> Option<Self> {
        let mut row = self.clone();
        let risked = |at| gone.is_some_and(|alive_at| at > alive_at - millis(LOST_SPAN));
        if row.published_at.is_some_and(risked) {
            (row.published_at, row.next_at) = (None, now);
        }
        let known = row.published_at.is_none_or(|at| at < looked_at);
        if row.stream_seq.is_some_and(|seq| seq > last.cast_signed()) && known {
            (row.published_at, row.stream_seq, row.next_at) = (None, None, now);
        }
        (row != *self).then_some(row)
    }

    /// The sweep confirms it.
    pub fn is_confirmed_by(&self, all_receipts: bool) -> bool {
        self.published_at.is_some() && !self.confirmed && all_receipts
    }

    /// A receipt should be there.
    pub fn is_overdue(&self, receipt: bool, overdue: Duration, now: i64) -> bool {
        !self.confirmed
            && !self.failed
            && !receipt
            && self.published_at.is_some_and(|at| at < now - millis(overdue))
    }

    /// The sweep offers it again.
    pub fn offer_again(&mut self, now: i64) {
        if self.published_at.is_some() {
            self.offer += 1;
            (self.published_at, self.next_at) = (None, now);
        }
    }
}

/// What the relay claims, in its order.
pub fn claimed(rows: &[Row], now: i64, limit: usize) -> Vec<Uuid> {
    let mut claimable: Vec<&Row> = rows.iter().filter(|row| row.is_claimable(now)).collect();
    claimable.sort_by_key(|row| (row.next_at, row.seq));
    claimable.iter().take(limit).map(|row| row.event).collect()
}

pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
