//! Values counted into bins, and bins made of them: what a report and a check spend most of their time on.

use drift_stats::between::Blocks;
use drift_stats::binning::{BinSettings, FeatureBins};
use drift_stats::profile::{Profile, Values};
use drift_stats::reference::ReferenceBuilder;

fn main() {
    divan::main();
}

const ROWS: usize = 100_000;

/// The same even numbers each time, stretched as amounts are (SplitMix64).
fn amounts() -> Vec<f64> {
    let mut state = 1_u64;
    (0..ROWS)
        .map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) as f64 / 2.0_f64.powi(64) * 8.0).exp()
        })
        .collect()
}

fn bins(values: &[f64]) -> Vec<FeatureBins> {
    let mut builder = ReferenceBuilder::new(BinSettings::default(), 200_000);
    builder.add(&[Values::Numbers(values)]).expect("one column");
    builder.finish()
}

#[divan::bench]
fn count(bencher: divan::Bencher<'_, '_>) {
    let values = amounts();
    let bins = bins(&values);
    bencher.counter(divan::counter::ItemsCount::new(ROWS)).bench(|| {
        let mut profile = Profile::empty(&bins);
        profile.add(&bins, &[Values::Numbers(&values)]).map(|()| profile)
    });
}

#[divan::bench]
fn count_in_blocks(bencher: divan::Bencher<'_, '_>) {
    let values = amounts();
    let bins = bins(&values);
    bencher.counter(divan::counter::ItemsCount::new(ROWS)).bench(|| {
        let mut blocks = Blocks::new();
        blocks
            .add(&bins, &[Values::Numbers(&values)])
            .and_then(|()| blocks.finish(&bins))
    });
}

#[divan::bench]
fn make_bins(bencher: divan::Bencher<'_, '_>) {
    let values = amounts();
    bencher
        .counter(divan::counter::ItemsCount::new(ROWS))
        .bench(|| bins(&values));
}
