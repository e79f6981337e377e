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
    pub stored_at: Option<i64>,
    pub confirmed: bool,
    pub failed: bool,
}

/// A broker that is another one now.
#[derive(Debug, Clone, Copy)]
pub struct Gone {
    /// When it was last seen alive.
    pub alive_at: i64,
    /// Its streams were made again.
    pub streams_too: bool,
}

impl Row {
    /// The relay may publish it.
    pub fn is_claimable(&self, now: i64) -> bool {
        self.published_at.is_none() && !self.failed && self.next_at <= now
    }

    /// What a comparison of brokers makes of it; `None` when nothing.
    pub fn compared(&self, gone: Option<Gone>, last: u64, looked_at: i64, now: i64) -> Option<Self> {
        let mut row = self.clone();
        let stored_at = row.stored_at.or(row.published_at);
        let risked = |gone: Gone| stored_at.is_some_and(|at| at > gone.alive_at - millis(LOST_SPAN));
        if let Some(gone) = gone
            && row.published_at.is_some()
            && risked(gone)
        {
            (row.published_at, row.next_at) = (None, now);
            row.stream_seq = row.stream_seq.filter(|_| !gone.streams_too);
        }
        let known = row.published_at.is_none_or(|at| at < looked_at);
        if row.stream_seq.is_some_and(|seq| seq > last.cast_signed()) && known {
            (row.published_at, row.stream_seq, row.next_at) = (None, None, now);
        }
        (row != *self).then_some(row)
    }

    /// The broker acknowledged it.
    pub fn acknowledged(&mut self, seq: i64, fresh: bool, now: i64) {
        if fresh || self.stream_seq != Some(seq) {
            self.stored_at = None;
        }
        self.stored_at.get_or_insert(now);
        (self.published_at, self.stream_seq, self.attempt) = (Some(now), Some(seq), 0);
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
    claimable.sort_by_key(|row| (row.confirmed, row.next_at, row.seq));
    claimable.iter().take(limit).map(|row| row.event).collect()
}

pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
