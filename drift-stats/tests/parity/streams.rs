//! Detectors that read one value at a time: river.

use drift_stats::stream::{
    Adwin, AdwinSettings, Ddm, DdmSettings, Eddm, EddmSettings, HddmA, HddmASettings, HddmW, HddmWSettings,
    Kswin, KswinSettings, PageHinkley, PageHinkleySettings, Sides, Signal, StreamDetector,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::support::{cases, counts, near, numbers};

/// The values of a stream.
fn stream_of(case: &Value) -> Vec<f64> {
    case["bits"].as_str().map_or_else(
        || numbers(&case["values"]),
        |bits| {
            bits.chars()
                .map(|bit| if bit == '1' { 1.0 } else { 0.0 })
                .collect()
        },
    )
}

struct Streamed {
    drift_at: Vec<usize>,
    warning_starts_at: Vec<usize>,
}

/// Runs a stream through a detector, which is saved and restored again and again on its way.
fn streamed<D: StreamDetector + Serialize + DeserializeOwned>(
    mut detector: D,
    values: &[f64],
) -> (Streamed, D) {
    let mut found = Streamed {
        drift_at: Vec::new(),
        warning_starts_at: Vec::new(),
    };
    let mut warned = false;
    for (at, value) in values.iter().enumerate() {
        let signal = detector.update(*value).unwrap();
        if let Signal::Drift { began } = signal {
            assert!(began <= at as u64, "a change began after it was seen");
            found.drift_at.push(at);
        }
        let warns = signal == Signal::Warning;
        if warns && !warned {
            found.warning_starts_at.push(at);
        }
        warned = warns;
        if at % 97 == 0 {
            let saved = serde_json::to_string(&detector).unwrap();
            detector = serde_json::from_str(&saved).unwrap();
        }
    }
    (found, detector)
}

fn positions(value: &Value) -> Vec<usize> {
    counts(value)
        .into_iter()
        .map(|at| usize::try_from(at).unwrap())
        .collect()
}

#[test]
fn detectors_on_streams_speak_where_those_of_river_do() {
    let mut compared = 0;
    for (id, case) in cases("streams.json") {
        let values = stream_of(&case);
        let wanted = case["expected"]["river"].as_object().expect("detectors");
        for (name, want) in wanted {
            let given = &want["parameters"];
            let number = |key: &str, default: f64| given[key].as_f64().unwrap_or(default);
            let count = |key: &str, default: u64| given[key].as_u64().unwrap_or(default);
            let two_sided = given["two_sided_test"].as_bool().unwrap_or(false);
            let kind = name.split('_').next().unwrap_or_default();
            let found = match (kind, name.as_str()) {
                ("ADWIN", _) => {
                    let settings = AdwinSettings {
                        delta: number("delta", 0.002),
                        clock: count("clock", 32),
                        max_buckets: 5,
                        min_window: count("min_window_length", 5),
                        grace_period: count("grace_period", 10),
                    };
                    let (found, adwin) = streamed(Adwin::new(settings).unwrap(), &values);
                    near(&id, name, adwin.width() as f64, &want["final_width"], 1e-9);
                    near(&id, name, adwin.mean(), &want["final_mean"], 1e-9);
                    near(
                        &id,
                        name,
                        adwin.squared_deviations(),
                        &want["final_variance"],
                        1e-9,
                    );
                    found
                }
                ("PageHinkley", _) => {
                    let settings = PageHinkleySettings {
                        min_instances: count("min_instances", 30),
                        delta: number("delta", 0.005),
                        threshold: number("threshold", 50.0),
                        alpha: number("alpha", 1.0 - 0.0001),
                        sides: match given["mode"].as_str() {
                            Some("up") => Sides::Up,
                            Some("down") => Sides::Down,
                            _ => Sides::Both,
                        },
                    };
                    streamed(PageHinkley::new(settings).unwrap(), &values).0
                }
                // Needs Python's random numbers.
                ("KSWIN", "KSWIN_default_seed_7_informative") => continue,
                ("KSWIN", _) => {
                    let settings = KswinSettings {
                        alpha: number("alpha", 0.005),
                        window: usize::try_from(count("window_size", 100)).unwrap(),
                        recent: usize::try_from(count("stat_size", 30)).unwrap(),
                    };
                    streamed(Kswin::new(settings).unwrap(), &values).0
                }
                ("DDM", _) => {
                    let settings = DdmSettings {
                        warm_start: count("warm_start", 30),
                        warning: number("warning_threshold", 2.0),
                        drift: number("drift_threshold", 3.0),
                    };
                    streamed(Ddm::new(settings).unwrap(), &values).0
                }
                ("EDDM", _) => {
                    let settings = EddmSettings {
                        warm_start: count("warm_start", 30),
                        warning: number("alpha", 0.95),
                        drift: number("beta", 0.9),
                    };
                    streamed(Eddm::new(settings).unwrap(), &values).0
                }
                ("HDDM", name) if name.starts_with("HDDM_A") => {
                    let settings = HddmASettings {
                        drift_confidence: number("drift_confidence", 0.001),
                        warning_confidence: number("warning_confidence", 0.005),
                        two_sided,
                    };
                    streamed(HddmA::new(settings).unwrap(), &values).0
                }
                ("HDDM", name) if name.starts_with("HDDM_W") => {
                    let settings = HddmWSettings {
                        drift_confidence: number("drift_confidence", 0.001),
                        warning_confidence: number("warning_confidence", 0.005),
                        lambda: number("lambda_val", 0.05),
                        two_sided,
                    };
                    streamed(HddmW::new(settings).unwrap(), &values).0
                }
                other => panic!("{id}: there is no detector {other:?} here"),
            };
            compared += 1;
            assert_eq!(
                found.drift_at,
                positions(&want["drift_at"]),
                "{id} {name}: drifts"
            );
            if !want["warning_starts_at"].is_null() {
                let wanted = positions(&want["warning_starts_at"]);
                assert_eq!(found.warning_starts_at, wanted, "{id} {name}: warnings");
            }
        }
    }
    println!("{compared} streams were compared");
}
