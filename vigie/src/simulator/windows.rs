//! Counts and sums over windows that end now or a delay ago, kept up to date in one pass through time.

use std::collections::VecDeque;

/// Which items a window holds at an instant: those with `now - delay - width < time <= now - delay`, seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    pub(super) delay: i64,
    pub(super) width: i64,
}

/// What a window holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) count: u32,
    /// Sum of the values: cents, or frauds.
    pub(super) sum: i64,
}

impl Totals {
    /// Mean of the values; none of nothing.
    pub(super) fn mean(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / f64::from(self.count))
    }
}

/// `N` windows over the same items. Sums are whole numbers, so that adding and taking away leaves no error behind.
#[derive(Debug, Clone)]
pub(super) struct Windows<const N: usize> {
    /// Time and value, oldest first.
    items: VecDeque<(i64, i64)>,
    /// Items that were let go, so that positions stay true.
    gone: usize,
    spans: [Span; N],
}

/// A window's items are those at positions `begin..end`, counted from the first item ever.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    begin: usize,
    end: usize,
    totals: Totals,
}

impl<const N: usize> Default for Windows<N> {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            gone: 0,
            spans: [Span::default(); N],
        }
    }
}

impl<const N: usize> Windows<N> {
    /// Adds an item, not older than any before it.
    pub(super) fn push(&mut self, time: i64, value: i64) {
        debug_assert!(
            self.items.back().is_none_or(|(last, _)| *last <= time),
            "items come in order of time"
        );
        self.items.push_back((time, value));
    }

    /// What each window holds at `now`, which never goes back.
    pub(super) fn at(&mut self, now: i64, reaches: &[Reach; N]) -> [Totals; N] {
        let (items, gone) = (&self.items, self.gone);
        for (span, reach) in self.spans.iter_mut().zip(reaches) {
            let newest = now - reach.delay;
            while let Some((_, value)) = items.get(span.end - gone).filter(|(time, _)| *time <= newest) {
                span.totals.count += 1;
                span.totals.sum += value;
                span.end += 1;
            }
            let oldest = newest - reach.width;
            while let Some((_, value)) = items
                .get(span.begin - gone)
                .filter(|(time, _)| span.begin < span.end && *time <= oldest)
            {
                span.totals.count -= 1;
                span.totals.sum -= value;
                span.begin += 1;
            }
        }
        let needed = self
            .spans
            .iter()
            .map(|span| span.begin)
            .min()
            .unwrap_or(self.gone);
        self.items.drain(..needed - self.gone);
        self.gone = needed;
        self.spans.map(|span| span.totals)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REACHES: [Reach; 3] = [
        Reach { delay: 0, width: 10 },
        Reach { delay: 7, width: 3 },
        Reach { delay: 7, width: 40 },
    ];

    proptest! {
        #[test]
        fn windows_hold_what_a_search_finds(steps in proptest::collection::vec((0_i64..6, -50_i64..50, any::<bool>()), 0..120)) {
            let mut windows = Windows::<3>::default();
            let mut items = Vec::new();
            let mut now = 0;
            for (pause, value, push) in steps {
                now += pause;
                if push {
                    windows.push(now, value);
                    items.push((now, value));
                }
                let found = windows.at(now, &REACHES);
                for (reach, found) in REACHES.iter().zip(found) {
                    let newest = now - reach.delay;
                    let held = || items.iter().filter(|(time, _)| newest - reach.width < *time && *time <= newest);
                    let expected = Totals { count: held().count() as u32, sum: held().map(|(_, value)| value).sum() };
                    prop_assert_eq!(found, expected, "{:?} at {}", reach, now);
                }
                prop_assert!(windows.items.iter().all(|(time, _)| *time > now - 47 - 6), "old items are let go");
            }
        }
    }
}
