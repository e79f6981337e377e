//! Customers and terminals: drawn once, the same for the whole stream.

use rand::Rng as _;

use super::{Purpose, SimulateOptions, generator};

/// Side of the square that everybody lives in.
const SIDE: f64 = 100.0;
/// A customer pays at terminals within this distance.
const RADIUS: f64 = 5.0;
/// Cells of the search grid along a side; a cell is as wide as the radius, so the 9 cells around hold all in reach.
const CELLS: usize = (SIDE / RADIUS) as usize;

/// The categories of merchants and their shares of terminals; 100 in all.
const CATEGORIES: [(&str, u32); 8] = [
    ("grocery", 26),
    ("restaurant", 18),
    ("fuel", 12),
    ("clothing", 12),
    ("online_retail", 12),
    ("electronics", 8),
    ("travel", 7),
    ("entertainment", 5),
];

/// Categories that terminals change to in planted drifts; unknown before.
pub(super) const NEW_CATEGORIES: [&str; 4] =
    ["gift_cards", "crypto_exchange", "online_gaming", "money_transfer"];

/// A cardholder.
#[derive(Debug, Clone)]
pub(super) struct Customer {
    /// Mean amount, currency units, 5 to 100; the standard deviation is half of it.
    pub(super) amount_mean: f64,
    /// Mean number of payments a day, 0 to 4.
    pub(super) payments_mean: f64,
    /// Where its terminals lie in [`Population::reachable`].
    terminals: std::ops::Range<usize>,
}

/// Everybody.
#[derive(Debug, Clone)]
pub(super) struct Population {
    pub(super) customers: Vec<Customer>,
    /// The category of each terminal.
    pub(super) category: Vec<&'static str>,
    /// Terminals in reach, customer after customer.
    reachable: Vec<u32>,
}

impl Population {
    pub(super) fn new(options: &SimulateOptions) -> Self {
        let mut random = generator(options.seed, Purpose::Population, 0);
        let place = |random: &mut rand_chacha::ChaCha8Rng| {
            let x: f64 = random.random();
            let y: f64 = random.random();
            (x * SIDE, y * SIDE)
        };
        let mut places = Vec::with_capacity(options.terminals as usize);
        let mut category = Vec::with_capacity(options.terminals as usize);
        for _ in 0..options.terminals {
            places.push(place(&mut random));
            category.push(drawn_category(random.random_range(0..100)));
        }
        let grid = Grid::new(&places);
        let mut reachable = Vec::new();
        let customers = (0..options.customers)
            .map(|_| {
                let home = place(&mut random);
                let amount_mean = random.random_range(5.0..100.0);
                let payments_mean = random.random_range(0.0..4.0);
                let begin = reachable.len();
                grid.within_reach(home, &places, &mut reachable);
                if reachable.len() == begin {
                    // The published process lets such a customer never pay; here everybody shops somewhere.
                    reachable.extend(nearest(home, &places));
                }
                Customer {
                    amount_mean,
                    payments_mean,
                    terminals: begin..reachable.len(),
                }
            })
            .collect();
        Self {
            customers,
            category,
            reachable,
        }
    }

    /// The terminals that a customer pays at; never none.
    pub(super) fn terminals_of(&self, customer: &Customer) -> &[u32] {
        &self.reachable[customer.terminals.clone()]
    }
}

fn drawn_category(mut at: u32) -> &'static str {
    for (name, share) in CATEGORIES {
        if at < share {
            return name;
        }
        at -= share;
    }
    CATEGORIES[0].0
}

fn distance_squared(a: (f64, f64), b: (f64, f64)) -> f64 {
    (a.0 - b.0).powi(2) + (a.1 - b.1).powi(2)
}

fn nearest(home: (f64, f64), places: &[(f64, f64)]) -> Option<u32> {
    let distances = places.iter().map(|place| distance_squared(home, *place));
    let nearest = distances.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
    nearest.map(|(terminal, _)| terminal as u32)
}

/// Terminals by cell, so that finding the neighbours does not look at everybody.
struct Grid {
    cells: Vec<Vec<u32>>,
}

impl Grid {
    fn new(places: &[(f64, f64)]) -> Self {
        let mut cells = vec![Vec::new(); CELLS * CELLS];
        for (terminal, place) in places.iter().enumerate() {
            let (column, row) = cell(*place);
            cells[row * CELLS + column].push(terminal as u32);
        }
        Self { cells }
    }

    /// Adds the terminals within the radius, in order of their number.
    fn within_reach(&self, home: (f64, f64), places: &[(f64, f64)], found: &mut Vec<u32>) {
        let begin = found.len();
        let (column, row) = cell(home);
        for row in row.saturating_sub(1)..=(row + 1).min(CELLS - 1) {
            for column in column.saturating_sub(1)..=(column + 1).min(CELLS - 1) {
                let near = self.cells[row * CELLS + column].iter().copied();
                found
                    .extend(near.filter(|at| distance_squared(home, places[*at as usize]) < RADIUS * RADIUS));
            }
        }
        found[begin..].sort_unstable();
    }
}

fn cell(place: (f64, f64)) -> (usize, usize) {
    let along = |at: f64| ((at / RADIUS) as usize).min(CELLS - 1);
    (along(place.0), along(place.1))
}
