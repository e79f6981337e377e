//! Updates of the detectors on streams: `cargo bench -p drift-stats`.
//!
//! Each reads a million values of a stream in which nothing changes – as a detector mostly lives – and for those on errors one with
//! 5 % errors. The figure is items a second.

use divan::Bencher;
use divan::counter::ItemsCount;
use drift_stats::stream::{
    Adwin, AdwinSettings, Ddm, DdmSettings, Eddm, EddmSettings, HddmA, HddmASettings, HddmW, HddmWSettings,
    PageHinkley, PageHinkleySettings, StreamDetector,
};

const VALUES: u64 = 1_000_000;

fn main() {
    divan::main();
}

/// Numbers from 0 to 1 that look drawn.
fn numbers() -> Vec<f64> {
    let mut state = 1_u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..VALUES).map(|_| draw()).collect()
}

fn errors() -> Vec<f64> {
    numbers()
        .into_iter()
        .map(|number| f64::from(u8::from(number < 0.05)))
        .collect()
}

fn run<D: StreamDetector>(bencher: Bencher<'_, '_>, values: &[f64], fresh: impl Fn() -> D + Sync) {
    bencher
        .counter(ItemsCount::new(VALUES))
        .with_inputs(fresh)
        .bench_local_values(|mut detector| {
            for value in values {
                // What it says is not needed, that it says it is.
                let _said = divan::black_box(detector.update(*value));
            }
            detector
        });
}

#[divan::bench]
fn adwin(bencher: Bencher<'_, '_>) {
    run(bencher, &numbers(), || {
        Adwin::new(AdwinSettings::default()).unwrap()
    });
}

#[divan::bench]
fn ddm(bencher: Bencher<'_, '_>) {
    run(bencher, &errors(), || Ddm::new(DdmSettings::default()).unwrap());
}

#[divan::bench]
fn eddm(bencher: Bencher<'_, '_>) {
    run(bencher, &errors(), || Eddm::new(EddmSettings::default()).unwrap());
}

#[divan::bench]
fn hddm_a(bencher: Bencher<'_, '_>) {
    run(bencher, &errors(), || {
        HddmA::new(HddmASettings::default()).unwrap()
    });
}

#[divan::bench]
fn hddm_w(bencher: Bencher<'_, '_>) {
    run(bencher, &errors(), || {
        HddmW::new(HddmWSettings::default()).unwrap()
    });
}

#[divan::bench]
fn page_hinkley(bencher: Bencher<'_, '_>) {
    run(bencher, &numbers(), || {
        PageHinkley::new(PageHinkleySettings::default()).unwrap()
    });
}
