//! Who pays where: customers and terminals on a square of 100 by 100, as the Handbook describes them.

use super::draw::{Draws, Stream};

/// Side of the square that everybody lives on.
const SIDE: f64 = 100.0;
/// How far a customer goes to pay.
const RADIUS: f64 = 5.0;
/// What merchants sell, and how common they are.
const CATEGORIES: [(&str, f64); 7] = [
    ("grocery", 0.30),
    ("restaurant", 0.20),
    ("fuel", 0.15),
    ("fashion", 0.12),
    ("online", 0.10),
    ("electronics", 0.08),
    ("travel", 0.05),
];

/// A cardholder.
#[derive(Debug, Clone)]
pub(super) struct Customer {
    /// Mean of an amount, currency units.
    pub(super) amount_mean: f64,
    /// Its standard deviation.
    pub(super) amount_sd: f64,
    /// Mean number of payments a day.
    pub(super) payments_mean: f64,
    /// Terminals within reach; a customer without any never pays.
    pub(super) terminals: Vec<u32>,
}

/// Everybody.
#[derive(Debug, Clone)]
pub(super) struct Population {
    pub(super) customers: Vec<Customer>,
    /// Category of each terminal.
    pub(super) categories: Vec<&'static str>,
}

impl Population {
    pub(super) fn new(seed: u64, customers: u32, terminals: u32) -> Self {
        let mut draws = Draws::new(seed, Stream::Population);
        let place = |draws: &mut Draws| (draws.between(0.0, SIDE), draws.between(0.0, SIDE));
        let terminals: Vec<((f64, f64), &'static str)> = (0..terminals)
            .map(|_| (place(&mut draws), category(draws.unit())))
            .collect();
        let map = Map::new(terminals.iter().map(|(place, _)| *place));
        let customers = (0..customers)
            .map(|_| {
                let home = place(&mut draws);
                let amount_mean = draws.between(5.0, 100.0);
                let payments_mean = draws.between(0.0, 4.0);
                Customer {
                    amount_mean,
                    amount_sd: amount_mean / 2.0,
                    payments_mean,
                    terminals: map.near(home),
                }
            })
            .collect();
        Self {
            customers,
            categories: terminals.iter().map(|(_, category)| *category).collect(),
        }
    }
}

fn category(unit: f64) -> &'static str {
    let mut left = unit;
    for (name, share) in CATEGORIES {
        if left < share {
            return name;
        }
        left -= share;
    }
    CATEGORIES[0].0
}

/// Places in square cells as wide as the radius: whatever is within reach is in a neighbouring cell.
struct Map {
    places: Vec<(f64, f64)>,
    cells: Vec<Vec<u32>>,
}

const CELLS: usize = (SIDE / RADIUS) as usize;

impl Map {
    fn new(places: impl Iterator<Item = (f64, f64)>) -> Self {
        let places: Vec<(f64, f64)> = places.collect();
        let mut cells = vec![Vec::new(); CELLS * CELLS];
        for (at, (x, y)) in (0_u32..).zip(&places) {
            cells[cell(*y) * CELLS + cell(*x)].push(at);
        }
        Self { places, cells }
    }

    /// Positions of the places within the radius, in order.
    fn near(&self, (x, y): (f64, f64)) -> Vec<u32> {
        let around = |at: usize| at.saturating_sub(1)..=(at + 1).min(CELLS - 1);
        let mut near: Vec<u32> = around(cell(y))
            .flat_map(|row| around(cell(x)).map(move |column| row * CELLS + column))
            .flat_map(|cell| &self.cells[cell])
            .copied()
            .filter(|at| {
                let (there_x, there_y) = self.places[*at as usize];
                (there_x - x).hypot(there_y - y) < RADIUS
            })
            .collect();
        near.sort_unstable();
        near
    }
}

fn cell(coordinate: f64) -> usize {
    ((coordinate / RADIUS) as usize).min(CELLS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_finds_what_a_search_finds() {
        let mut draws = Draws::new(3, Stream::Population);
        let places: Vec<(f64, f64)> = (0..600)
            .map(|_| (draws.between(0.0, SIDE), draws.between(0.0, SIDE)))
            .collect();
        let map = Map::new(places.iter().copied());
        for home in [(0.0, 0.0), (99.9, 99.9), (5.0, 50.0), (42.3, 17.7)] {
            let expected: Vec<u32> = (0_u32..)
                .zip(&places)
                .filter(|(_, (x, y))| (x - home.0).hypot(y - home.1) < RADIUS)
                .map(|(at, _)| at)
                .collect();
            assert_eq!(map.near(home), expected, "{home:?}");
        }
    }

    #[test]
    fn people_and_merchants_are_spread_as_described() {
        let population = Population::new(1, 4_000, 4_000);
        let mean = |value: fn(&Customer) -> f64| {
            population.customers.iter().map(value).sum::<f64>() / population.customers.len() as f64
        };
        assert!((mean(|customer| customer.amount_mean) - 52.5).abs() < 1.5);
        assert!((mean(|customer| customer.payments_mean) - 2.0).abs() < 0.06);
        // 4,000 terminals on the square are 31.4 within the radius, a little fewer for those near the border.
        let near = mean(|customer| customer.terminals.len() as f64);
        assert!((28.0..31.4).contains(&near), "{near}");
        for (name, share) in CATEGORIES {
            let found = population
                .categories
                .iter()
                .filter(|category| **category == name)
                .count() as f64;
            assert!((found / 4_000.0 - share).abs() < 0.03, "{name} {found}");
        }
        assert!((CATEGORIES.iter().map(|(_, share)| share).sum::<f64>() - 1.0).abs() < 1e-9);
    }
}
