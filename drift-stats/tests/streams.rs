//! Detectors on streams: they say where a change began, refuse what is no number, and survive being saved at any moment.

use drift_stats::Unusable;
use drift_stats::stream::{
    Adwin, AdwinSettings, BadSetting, Ddm, DdmSettings, Eddm, EddmSettings, HddmA, HddmASettings, HddmW,
    HddmWSettings, Kswin, KswinSettings, PageHinkley, PageHinkleySettings, Signal, StreamDetector,
};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Errors at these rates, each for so many values; the same in every run.
fn errors(parts: &[(usize, f64)]) -> Vec<f64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    parts
        .iter()
        .flat_map(|(count, rate)| std::iter::repeat_n(*rate, *count))
        .map(|rate| if uniform() < rate { 1.0 } else { 0.0 })
        .collect()
}

/// Positions at which it says that something changed, and since when.
fn changes(detector: &mut dyn StreamDetector, values: &[f64]) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    for (at, value) in (0..).zip(values) {
        if let Signal::Drift { began } = detector.update(*value).unwrap() {
            found.push((at, began));
        }
    }
    found
}

#[test]
fn a_change_is_found_and_said_to_have_begun_where_it_did() {
    let jump = 3_000;
    let values = errors(&[(3_000, 0.05), (3_000, 0.30)]);
    let mut adwin = Adwin::new(AdwinSettings::default()).unwrap();
    let mut ddm = Ddm::new(DdmSettings {
        warm_start: 500,
        ..DdmSettings::default()
    })
    .unwrap();
    let mut hddm_a = HddmA::new(HddmASettings::default()).unwrap();
    let mut hddm_w = HddmW::new(HddmWSettings::default()).unwrap();
    let mut page_hinkley = PageHinkley::new(PageHinkleySettings {
        delta: 0.1,
        threshold: 10.0,
        ..PageHinkleySettings::default()
    })
    .unwrap();
    let mut kswin = Kswin::new(KswinSettings {
        alpha: 0.001,
        window: 400,
        recent: 200,
    })
    .unwrap();
    let detectors: [(&mut dyn StreamDetector, u64); 6] = [
        (&mut adwin, 64),
        (&mut ddm, 100),
        (&mut hddm_a, 100),
        (&mut hddm_w, 200),
        (&mut page_hinkley, 100),
        (&mut kswin, 200),
    ];
    for (detector, tolerance) in detectors {
        let name = detector.name();
        let found = changes(detector, &values);
        let (at, began) = *found
            .iter()
            .find(|(at, _)| *at >= jump)
            .unwrap_or_else(|| panic!("{name} finds nothing: {found:?}"));
        assert!(at < jump + 400, "{name} needs until {at}");
        assert!(
            began.abs_diff(jump) <= tolerance,
            "{name} says that it began at {began}, not at {jump}"
        );
    }
}

#[test]
fn a_stream_without_change_is_quiet() {
    let values = errors(&[(20_000, 0.03)]);
    let mut adwin = Adwin::new(AdwinSettings::default()).unwrap();
    let mut hddm_a = HddmA::new(HddmASettings::default()).unwrap();
    assert_eq!(changes(&mut adwin, &values), []);
    assert_eq!(changes(&mut hddm_a, &values), []);
}

#[test]
fn what_is_no_value_is_refused_and_changes_nothing() {
    fn check<D: StreamDetector + Clone + PartialEq + std::fmt::Debug>(mut detector: D, strange: &[f64]) {
        for value in [0.0, 1.0, 1.0] {
            detector.update(value).unwrap();
        }
        let before = detector.clone();
        for value in [f64::NAN, f64::INFINITY].iter().chain(strange) {
            let refused = detector.update(*value);
            assert!(
                matches!(refused, Err(Unusable::NotFinite | Unusable::OutsideRange { .. })),
                "{} takes {value}: {refused:?}",
                detector.name()
            );
        }
        assert_eq!(detector, before);
    }
    check(Adwin::new(AdwinSettings::default()).unwrap(), &[]);
    check(Kswin::new(KswinSettings::default()).unwrap(), &[]);
    check(PageHinkley::new(PageHinkleySettings::default()).unwrap(), &[]);
    check(Ddm::new(DdmSettings::default()).unwrap(), &[-0.1, 1.1]);
    check(Eddm::new(EddmSettings::default()).unwrap(), &[-0.1, 0.5, 2.0]);
    check(HddmA::new(HddmASettings::default()).unwrap(), &[-0.1, 1.1]);
    check(HddmW::new(HddmWSettings::default()).unwrap(), &[-0.1, 1.1]);
}

#[test]
fn a_setting_that_cannot_work_is_named_with_what_it_may_be() {
    let delta = Adwin::new(AdwinSettings {
        delta: 0.0,
        ..AdwinSettings::default()
    });
    let told = delta.unwrap_err().to_string();
    assert_eq!(told, "`delta` is 0, expected above 0 and below 1");
    let refused: [(&str, Option<BadSetting>); 5] = [
        (
            "drift",
            Ddm::new(DdmSettings {
                drift: 1.0,
                ..DdmSettings::default()
            })
            .err(),
        ),
        (
            "drift",
            Eddm::new(EddmSettings {
                drift: 0.99,
                ..EddmSettings::default()
            })
            .err(),
        ),
        (
            "warning_confidence",
            HddmA::new(HddmASettings {
                warning_confidence: 0.0001,
                ..HddmASettings::default()
            })
            .err(),
        ),
        (
            "window",
            Kswin::new(KswinSettings {
                window: 30,
                ..KswinSettings::default()
            })
            .err(),
        ),
        (
            "threshold",
            PageHinkley::new(PageHinkleySettings {
                threshold: f64::NAN,
                ..PageHinkleySettings::default()
            })
            .err(),
        ),
    ];
    for (name, refused) in refused {
        assert_eq!(refused.map(|refused| refused.name), Some(name));
    }
}

/// Goes on as if nothing had happened after being saved and restored at each of the positions.
fn same_after_saving<D: StreamDetector + Serialize + DeserializeOwned + Clone>(
    detector: &D,
    values: &[f64],
    saved_at: &[usize],
) {
    let (mut one, mut other) = (detector.clone(), detector.clone());
    for (at, value) in values.iter().enumerate() {
        if saved_at.contains(&at) {
            other = serde_json::from_str(&serde_json::to_string(&other).unwrap()).unwrap();
        }
        assert_eq!(one.update(*value), other.update(*value), "value {at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_saved_detector_goes_on_as_if_nothing_had_happened(
        early in 50_usize..400,
        late in 50_usize..400,
        low in 0.0_f64..0.3,
        high in 0.3_f64..1.0,
        saved_at in proptest::collection::vec(0_usize..800, 1..6),
    ) {
        let values = errors(&[(early, low), (late, high)]);
        same_after_saving(&Adwin::new(AdwinSettings { clock: 1, ..AdwinSettings::default() }).unwrap(), &values, &saved_at);
        same_after_saving(&Ddm::new(DdmSettings::default()).unwrap(), &values, &saved_at);
        same_after_saving(&Eddm::new(EddmSettings::default()).unwrap(), &values, &saved_at);
        let two_sided = HddmASettings { two_sided: true, ..HddmASettings::default() };
        same_after_saving(&HddmA::new(two_sided).unwrap(), &values, &saved_at);
        let two_sided = HddmWSettings { two_sided: true, ..HddmWSettings::default() };
        same_after_saving(&HddmW::new(two_sided).unwrap(), &values, &saved_at);
        same_after_saving(&Kswin::new(KswinSettings::default()).unwrap(), &values, &saved_at);
        let quick = PageHinkleySettings { threshold: 5.0, ..PageHinkleySettings::default() };
        same_after_saving(&PageHinkley::new(quick).unwrap(), &values, &saved_at);
    }

    #[test]
    fn the_window_of_adwin_is_what_it_says(values in proptest::collection::vec(-1e3_f64..1e3, 1..400)) {
        let mut adwin = Adwin::new(AdwinSettings { delta: 1e-12, ..AdwinSettings::default() }).unwrap();
        for value in &values {
            prop_assert_eq!(adwin.update(*value), Ok(Signal::Quiet));
        }
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
        prop_assert_eq!(adwin.width(), values.len() as u64);
        prop_assert!((adwin.mean() - mean).abs() < 1e-9 * (1.0 + mean.abs()));
        prop_assert!((adwin.squared_deviations() - squares).abs() < 1e-9 * (1.0 + squares));
    }
}
