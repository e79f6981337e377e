//! From numbers to the bins that they are in: a table of bounds, searched for one number or for many.
//!
//! **One number**: a binary search without branches.
//!
//! **Many numbers**: the span of the bounds is cut into [`CELLS`] cells, and for each cell the table says how many bounds lie in cells below.
//! What remains is to compare a number with the few bounds of its own cell, so that no step waits for another. This is exact, not an
//! approximation: a number's cell is computed with a subtraction, a multiplication and at times a root, which never turn the order of two
//! numbers round (IEEE 754 rounds monotonically), so a bound in a lower cell is below the number and one in a higher cell is above it.
//! Cells have equal widths; where bounds would crowd into the first ones (amounts with a long tail), their widths grow from the first to the
//! last; where bounds crowd even so, numbers are searched for, many at a time. A cell without a bound lies in one bin, so its numbers need no
//! comparison; most cells are such. A processor foresees which numbers need one, unless a value with a bin of its own comes again and again
//! between others: where there is such a value, all numbers are compared.

use super::MISSING_BIN;

/// Cells that the span of the bounds is cut into; a power of two.
const CELLS: usize = 4096;
/// Bounds that are compared in each cell: as many as two registers hold.
const CROWD_MAX: usize = 4;
/// In place of a bin: a cell with a bound in it. The first cell is one, which NaN is in.
const DIVIDED: u16 = u16::MAX;
/// Numbers that are looked up together.
const LANES: usize = 16;
/// The number from which doubles have no fractions. Added to a smaller one, it leaves that one, rounded, in the lowest bits.
const WHOLE: f64 = 4_503_599_627_370_496.0;

/// Bounds of bins, and the bin above each.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lookup {
    /// Ascending, padded with infinity to a power of two less one, by [`CROWD_MAX`] at least: whoever compares a number with that many
    /// never comes to the end.
    bounds: Vec<f64>,
    /// For each number of bounds at or below a value the value's bin.
    bin_of_rank: Vec<u16>,
    /// None where bounds crowd.
    cells: Option<Cells>,
}

impl Lookup {
    /// A table of finite bounds, strictly ascending: values below the first are in the bin `lowest`, values from a bound on in the
    /// bin that `bin_from` gives for it.
    pub(super) fn new(mut bounds: Vec<f64>, lowest: u16, bin_from: impl Fn(f64) -> u16) -> Self {
        let mut bin_of_rank = vec![lowest];
        bin_of_rank.extend(bounds.iter().map(|bound| bin_from(*bound)));
        let cells = Cells::of(&bounds, &bin_of_rank);
        let padded = (bounds.len() + CROWD_MAX + 1).next_power_of_two() - 1;
        bounds.resize(padded, f64::INFINITY);
        // Infinity itself counts the padding too and must still be in the last bin.
        let last = bin_of_rank[bin_of_rank.len() - 1];
        bin_of_rank.resize(bounds.len() + 1, last);
        Self {
            bounds,
            bin_of_rank,
            cells,
        }
    }

    /// The bin of a value; NaN is missing.
    #[inline]
    pub(super) fn bin_of(&self, value: f64) -> usize {
        if value.is_nan() {
            return MISSING_BIN;
        }
        // Branch-free search in a table of 2^k - 1 bounds.
        let mut rank = 0;
        let mut step = self.bounds.len().div_ceil(2);
        while step > 0 {
            if self.bounds[rank + step - 1] <= value {
                rank += step;
            }
            step /= 2;
        }
        usize::from(self.bin_of_rank[rank])
    }

    /// Adds one to the count of each value's bin, as [`bin_of`](Self::bin_of) says.
    ///
    /// # Panics
    /// When there are fewer counts than bins.
    pub(super) fn count(&self, values: &[f64], counts: &mut [u64]) {
        let (together, rest) = values.as_chunks::<LANES>();
        match &self.cells {
            Some(cells) => self.count_by(cells, together, counts),
            None => self.search_for(together, counts),
        }
        for value in rest {
            counts[self.bin_of(*value)] += 1;
        }
    }

    fn search_for(&self, values: &[[f64; LANES]], counts: &mut [u64]) {
        let depth = (self.bounds.len() + 1).trailing_zeros() as usize;
        match SEARCHES.get(depth) {
            Some(search) => search(self, values, counts),
            None => {
                for value in values.as_flattened() {
                    counts[self.bin_of(*value)] += 1;
                }
            }
        }
    }

    /// For a table of `2^DEPTH - 1` bounds: with a depth that the compiler knows, and searches that wait for memory together, it takes a
    /// seventh of the time.
    fn search_at<const DEPTH: usize>(&self, values: &[[f64; LANES]], counts: &mut [u64]) {
        let bounds = &self.bounds[..(1 << DEPTH) - 1];
        let bins = &self.bin_of_rank[..1 << DEPTH];
        for lanes in values {
            let mut ranks = [0_usize; LANES];
            for level in (0..DEPTH).rev() {
                let step = 1_usize << level;
                for (rank, value) in ranks.iter_mut().zip(lanes) {
                    *rank += usize::from(bounds[*rank + step - 1] <= *value) << level;
                }
            }
            for (rank, value) in ranks.iter().zip(lanes) {
                counts[known_or_missing(*value, bins[*rank])] += 1;
            }
        }
    }

    fn count_by(&self, cells: &Cells, values: &[[f64; LANES]], counts: &mut [u64]) {
        let cut = cells.cut;
        // The kind of cut is looked at once, not for each value.
        match cut.widths {
            Widths::Equal => self.count_in(cells, values, counts, |value| cut.equal(value)),
            Widths::Growing => self.count_in(cells, values, counts, |value| cut.growing(value)),
        }
    }

    #[inline]
    fn count_in(
        &self,
        cells: &Cells,
        values: &[[f64; LANES]],
        counts: &mut [u64],
        cell_of: impl Fn(f64) -> usize,
    ) {
        let compared = |cell: usize, value| self.compared(usize::from(cells.below[cell]), value);
        match &cells.whole {
            Some(whole) => tally(values, counts, cell_of, |cell, value| match whole[cell] {
                DIVIDED => compared(cell, value),
                bin => usize::from(bin),
            }),
            None => tally(values, counts, cell_of, compared),
        }
    }

    /// The bin of a value with so many bounds in lower cells.
    #[inline]
    fn compared(&self, below: usize, value: f64) -> usize {
        let crowd = &self.bounds[below..below + CROWD_MAX];
        let rank = below + crowd.iter().filter(|bound| **bound <= value).count();
        known_or_missing(value, self.bin_of_rank[rank])
    }
}

fn known_or_missing(value: f64, bin: u16) -> usize {
    if value.is_nan() {
        MISSING_BIN
    } else {
        usize::from(bin)
    }
}

type Search = fn(&Lookup, &[[f64; LANES]], &mut [u64]);

/// By the depth of the table of bounds: up to 2,047 of them.
const SEARCHES: [Search; 12] = [
    Lookup::search_at::<0>,
    Lookup::search_at::<1>,
    Lookup::search_at::<2>,
    Lookup::search_at::<3>,
    Lookup::search_at::<4>,
    Lookup::search_at::<5>,
    Lookup::search_at::<6>,
    Lookup::search_at::<7>,
    Lookup::search_at::<8>,
    Lookup::search_at::<9>,
    Lookup::search_at::<10>,
    Lookup::search_at::<11>,
];

/// The span of the bounds in cells.
#[derive(Debug, Clone, PartialEq)]
struct Cells {
    cut: Cut,
    /// For each cell how many bounds lie in lower cells.
    below: Box<[u16; CELLS]>,
    /// For each cell the bin that all of it lies in, or [`DIVIDED`]; none where a value has a bin of its own.
    whole: Option<Box<[u16; CELLS]>>,
}

/// How a span is cut.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cut {
    /// Where it begins: the first bound.
    from: f64,
    /// Cells per unit of the distance, or of its root; finite and above 0.
    scale: f64,
    widths: Widths,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Widths {
    /// All alike.
    Equal,
    /// In proportion to the cell's number: cells are equal parts of the root of the distance.
    Growing,
}

impl Cells {
    /// None where there is no span, where it cannot be cut, or where more bounds than [`CROWD_MAX`] share a cell.
    fn of(bounds: &[f64], bin_of_rank: &[u16]) -> Option<Self> {
        let (from, span) = (*bounds.first()?, bounds.last()? - bounds.first()?);
        [Widths::Equal, Widths::Growing].into_iter().find_map(|widths| {
            let span = match widths {
                Widths::Equal => span,
                Widths::Growing => span.sqrt(),
            };
            let scale = (CELLS - 1) as f64 / span;
            let cut = Cut { from, scale, widths };
            (scale.is_finite() && scale > 0.0).then(|| Self::cut(bounds, bin_of_rank, cut))?
        })
    }

    fn cut(bounds: &[f64], bin_of_rank: &[u16], cut: Cut) -> Option<Self> {
        let cells: Vec<usize> = bounds.iter().map(|bound| cut.cell_of(*bound)).collect();
        if cells.windows(CROWD_MAX + 1).any(|run| run[0] == run[CROWD_MAX]) {
            return None;
        }
        let mut below = Box::new([0; CELLS]);
        let mut whole = Box::new([DIVIDED; CELLS]);
        let mut lower = 0;
        for cell in 0..CELLS {
            while cells.get(lower).is_some_and(|of_bound| *of_bound < cell) {
                lower += 1;
            }
            below[cell] = lower as u16;
            if cells.get(lower) != Some(&cell) {
                whole[cell] = bin_of_rank[lower];
            }
        }
        let has_points = bounds.windows(2).any(|pair| pair[0].next_up() == pair[1]);
        Some(Self {
            cut,
            below,
            whole: (!has_points).then_some(whole),
        })
    }
}

#[inline]
fn tally(
    values: &[[f64; LANES]],
    counts: &mut [u64],
    cell_of: impl Fn(f64) -> usize,
    bin_of: impl Fn(usize, f64) -> usize,
) {
    for lanes in values {
        // Two loops: the first has no memory to wait for, and is done for several lanes at once.
        let mut cells = [0; LANES];
        for (cell, value) in cells.iter_mut().zip(lanes) {
            *cell = cell_of(*value);
        }
        for (cell, value) in cells.iter().zip(lanes) {
            counts[bin_of(*cell, *value)] += 1;
        }
    }
}

impl Cut {
    /// The cell of a value: the first for what lies below the span and for NaN, the last for what lies above. Never a lower one for a
    /// larger value.
    fn cell_of(self, value: f64) -> usize {
        match self.widths {
            Widths::Equal => self.equal(value),
            Widths::Growing => self.growing(value),
        }
    }

    #[inline]
    fn equal(self, value: f64) -> usize {
        within(zero_or_more(value - self.from) * self.scale)
    }

    #[inline]
    fn growing(self, value: f64) -> usize {
        within(zero_or_more(value - self.from).sqrt() * self.scale)
    }
}

/// 0 for what is less, and for NaN. Not `max`, which takes more than one instruction.
#[inline]
fn zero_or_more(distance: f64) -> f64 {
    if distance > 0.0 { distance } else { 0.0 }
}

/// The cell with this number, rounded; the last for larger ones.
#[inline]
fn within(cells: f64) -> usize {
    let last = (CELLS - 1) as f64;
    let cells = if cells < last { cells } else { last };
    (cells + WHOLE).to_bits() as usize % CELLS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bins numbered by the bounds below, from 1.
    fn lookup(bounds: &[f64]) -> Lookup {
        let known = bounds.to_vec();
        Lookup::new(bounds.to_vec(), 1, move |bound| {
            known.partition_point(|other| *other <= bound) as u16 + 1
        })
    }

    /// Every bound and its neighbours, what is far from all, and what is no number; often enough to be looked up together.
    fn values_about(bounds: &[f64]) -> Vec<f64> {
        let far = [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MAX,
            f64::MIN,
            0.0,
            -0.0,
            5e-324,
        ];
        let between = bounds.windows(2).map(|pair| pair[0] / 2.0 + pair[1] / 2.0);
        bounds
            .iter()
            .flat_map(|bound| [bound.next_down(), *bound, bound.next_up()])
            .chain(between)
            .chain(far)
            .cycle()
            .take(3 * LANES + 4 * bounds.len() + far.len())
            .collect()
    }

    /// By the definition, without any table.
    fn counted(bounds: &[f64], values: &[f64]) -> Vec<u64> {
        let mut counts = vec![0; bounds.len() + 2];
        for value in values {
            let bin = if value.is_nan() {
                MISSING_BIN
            } else {
                1 + bounds.iter().filter(|bound| *bound <= value).count()
            };
            counts[bin] += 1;
        }
        counts
    }

    #[test]
    fn many_values_are_counted_as_the_definition_says() {
        let even: Vec<f64> = (0..99).map(f64::from).collect();
        let tail: Vec<f64> = (0..99).map(|at| (f64::from(at) * 0.08).exp()).collect();
        let crowded: Vec<f64> = (0..99).map(|at| (f64::from(at) * 0.4).exp()).collect();
        let about_zero: Vec<f64> = (-50..50).map(|at| f64::from(at) / 7.0).collect();
        let crowded_about_zero: Vec<f64> = about_zero.iter().map(|at| at.powi(3)).collect();
        let point = vec![250.0, 250.0_f64.next_up()];
        let points: Vec<f64> = (0..20)
            .flat_map(|at| [f64::from(at), f64::from(at).next_up()])
            .collect();
        let tiny: Vec<f64> = (1..9).map(|at| f64::from(at) * 5e-324).collect();
        let widest = vec![f64::MIN, -1.0, 0.0, 1.0, f64::MAX];
        let thousands: Vec<f64> = (0..5_000).map(|at| f64::from(at) * 0.25).collect();
        for (bounds, widths) in [
            (&even, Some(Widths::Equal)),
            (&about_zero, Some(Widths::Equal)),
            (&point, Some(Widths::Equal)),
            (&points, Some(Widths::Equal)),
            (&thousands, Some(Widths::Equal)),
            (&tail, Some(Widths::Growing)),
            (&crowded, None),
            (&crowded_about_zero, None),
            (&tiny, Some(Widths::Growing)),
            (&widest, None),
            (&Vec::new(), None),
            (&vec![7.0], None),
        ] {
            let lookup = lookup(bounds);
            let values = values_about(bounds);
            let mut counts = vec![0; bounds.len() + 2];
            lookup.count(&values, &mut counts);
            assert_eq!(counts, counted(bounds, &values), "{bounds:?}");
            let mut one_by_one = vec![0; bounds.len() + 2];
            for value in &values {
                one_by_one[lookup.bin_of(*value)] += 1;
            }
            assert_eq!(one_by_one, counts, "{bounds:?}");
            let cut = lookup.cells.map(|cells| cells.cut.widths);
            assert_eq!(cut, widths, "{bounds:?}");
        }
    }
}
