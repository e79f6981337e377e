//! The core on small seeded data: what is learnt, what repeats, what is refused.

use std::sync::atomic::{AtomicUsize, Ordering};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scoring::{Body, Column, Encoding, Forest, MISSING, Model, Rows};
use smartcore::ensemble::random_forest_regressor::RandomForestRegressor;

use super::encode::learn;
use super::forest::{column_major, flatten, settings_of};
use super::*;

/// Fraud hides in a square of two features that no straight line cuts out, and in one country.
fn square(rows: usize, seed: u64) -> Slice {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let dictionary = vec!["FR".to_owned(), "BE".to_owned(), "XX".to_owned()];
    let (mut a, mut b, mut codes, mut labels) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rows {
        let (x, y, code) = (
            random.random::<f64>(),
            random.random::<f64>(),
            random.random_range(0..30_u32),
        );
        let code = if code == 29 { MISSING } else { code % 3 };
        let square = (0.4..0.6).contains(&x) && (0.4..0.6).contains(&y);
        labels.push((square && random.random_bool(0.9)) || random.random_bool(0.002));
        a.push(if random.random_bool(0.02) {
            f64::NAN
        } else {
            x * 1_000.0
        });
        b.push(y);
        codes.push(code);
    }
    Slice {
        columns: vec![
            NamedColumn {
                name: "a".to_owned(),
                values: Values::Numeric(a),
            },
            NamedColumn {
                name: "b".to_owned(),
                values: Values::Numeric(b),
            },
            NamedColumn {
                name: "country".to_owned(),
                values: Values::Category { codes, dictionary },
            },
        ],
        labels,
    }
}

/// Fraud grows with one feature.
fn slope(rows: usize, seed: u64) -> Slice {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let x: Vec<f64> = (0..rows).map(|_| random.random_range(-3.0..3.0)).collect();
    let labels = x
        .iter()
        .map(|x| random.random_bool(1.0 / (1.0 + (3.0 - 2.0 * x).exp())))
        .collect();
    Slice {
        columns: vec![NamedColumn {
            name: "x".to_owned(),
            values: Values::Numeric(x),
        }],
        labels,
    }
}

fn parameters() -> Parameters {
    Parameters {
        logistic: Some(LogisticParameters { l2: 1.0 }),
        forest: Some(ForestParameters {
            trees: 25,
            depth_max: 8,
            inputs_per_split: Some(3),
            leaf_rows_min: 3,
        }),
        threshold_rule: ThresholdRule::BestF1,
        rows_min: 100,
        rows_max: 100_000,
        frauds_min: 10,
        threshold_frauds_min: 5,
        levels_max: 10,
        threads: 2,
        seed: 11,
    }
}

fn identity() -> Identity {
    let at = |text: &str| text.parse().unwrap();
    Identity {
        model: "fraud-cards".parse().unwrap(),
        created: at("2026-05-01T00:00:00Z"),
        training_window: schemas::Window::new(at("2026-04-01T00:00:00Z"), at("2026-04-15T00:00:00Z"))
            .unwrap(),
    }
}

fn trained(parameters: &Parameters) -> Trained {
    train(
        parameters,
        &identity(),
        square(4_000, 1),
        &square(2_000, 2),
        &Silent,
    )
    .unwrap()
}

#[test]
fn the_forest_wins_where_no_straight_line_can_and_finds_the_square() {
    let trained = trained(&parameters());
    let by_name = |name| trained.candidates.iter().find(|c| c.algorithm == name).unwrap();
    let (line, forest) = (by_name("logistic_regression"), by_name("random_forest"));
    assert!(
        forest.average_precision > 0.7 && line.average_precision < 0.2,
        "{:?}",
        trained.candidates
    );
    assert_eq!(trained.artifact.algorithm, "random_forest");

    let model = Model::new(trained.artifact).unwrap();
    let country = [Some("FR".to_owned()), Some("FR".to_owned())];
    let rows = Rows::new(2)
        .with("a", Column::Numeric(&[500.0, 100.0]))
        .and_then(|rows| rows.with("b", Column::Numeric(&[0.5, 0.1])))
        .and_then(|rows| rows.with("country", Column::Text(&country)))
        .unwrap();
    let scores = model.score_rows(&rows).unwrap();
    assert!(
        scores[0] >= model.operating_threshold() && scores[1] < model.operating_threshold(),
        "{scores:?}"
    );
}

#[test]
fn the_logistic_regression_recovers_the_slope_it_was_drawn_from() {
    let only = Parameters {
        forest: None,
        ..parameters()
    };
    let trained = train(&only, &identity(), slope(20_000, 3), &slope(4_000, 4), &Silent).unwrap();
    let Body::Logistic(logistic) = &trained.artifact.body else {
        panic!("not a logistic regression")
    };
    let Encoding::Numeric {
        standardise: Some(scale),
        ..
    } = trained.artifact.features[0].encoding
    else {
        panic!("not standardised")
    };
    // Back on the raw scale it must be about log-odds = −3 + 2 x.
    let slope = logistic.coefficients[0] / scale.sd;
    let intercept = logistic.intercept - slope * scale.mean;
    assert!(
        (slope - 2.0).abs() < 0.15 && (intercept + 3.0).abs() < 0.2,
        "{slope} {intercept}"
    );
}

#[test]
fn our_flat_trees_score_bit_by_bit_what_smartcore_predicts() {
    let slice = square(1_500, 5);
    let features = learn(&slice, false, 10).unwrap();
    let width = features
        .iter()
        .map(|feature| feature.encoding.width())
        .sum::<usize>();
    let inputs = scoring::encode_rows(&features, &slice.rows().unwrap()).unwrap();
    let x = column_major(&inputs, width, slice.len()).unwrap();
    let y: Vec<f64> = slice
        .labels
        .iter()
        .map(|label| f64::from(u8::from(*label)))
        .collect();
    let settings = settings_of(parameters().forest.unwrap(), 0, 99);
    let fitted = RandomForestRegressor::fit(&x, &y, settings).unwrap();
    let expected: Vec<f64> = fitted.predict(&x).unwrap();

    let mut artifact = trained(&Parameters {
        logistic: None,
        ..parameters()
    })
    .artifact;
    artifact.features = features;
    artifact.body = Body::Forest(Forest {
        trees: flatten(&fitted).unwrap(),
    });
    let scores = Model::new(artifact)
        .unwrap()
        .score_rows(&slice.rows().unwrap())
        .unwrap();
    assert_eq!(scores, expected);
    assert!(scores.iter().any(|score| *score > 0.5) && scores.iter().any(|score| *score < 0.01));
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads_and_another_seed_does_not() {
    let bytes = |threads, seed| {
        trained(&Parameters {
            threads,
            seed,
            ..parameters()
        })
        .artifact
        .to_bytes()
        .unwrap()
    };
    assert_eq!(bytes(1, 11), bytes(3, 11));
    assert_eq!(bytes(2, 11), bytes(2, 11));
    assert_ne!(bytes(2, 11), bytes(2, 12));
}

#[test]
fn every_group_of_trees_is_there_and_differs() {
    let Body::Forest(forest) = trained(&Parameters {
        logistic: None,
        ..parameters()
    })
    .artifact
    .body
    else {
        panic!("not a forest")
    };
    assert_eq!(forest.trees.len(), 25);
    for (index, tree) in forest.trees.iter().enumerate() {
        assert!(!forest.trees[..index].contains(tree), "tree {index} is a copy");
    }
}

#[test]
fn the_threshold_comes_from_the_threshold_slice_alone() {
    let (rule, training) = (
        ThresholdRule::WidestMargin {
            recall_min: 0.8,
            precision_min: 0.75,
        },
        square(4_000, 1),
    );
    let parameters = Parameters {
        threshold_rule: rule,
        ..parameters()
    };
    let threshold = square(2_000, 2);
    let trained = train(&parameters, &identity(), training, &threshold, &Silent).unwrap();
    let model = Model::new(trained.artifact.clone()).unwrap();
    let scores = model.score_rows(&threshold.rows().unwrap()).unwrap();
    let ranking = drift_stats::performance::Ranking::new(&scores, &threshold.labels).unwrap();
    let margin = |confusion: drift_stats::performance::Confusion| {
        (confusion.recall().value().unwrap() - 0.8).min(confusion.precision().value().unwrap() - 0.75)
    };
    let chosen = margin(ranking.confusion_at(model.operating_threshold()));
    assert_eq!(
        ranking.confusion_at(model.operating_threshold()),
        trained.confusion
    );
    for score in scores {
        assert!(
            margin(ranking.confusion_at(score)) <= chosen,
            "{score} would have had the wider margin"
        );
    }
}

#[test]
fn a_rule_that_no_threshold_keeps_gives_way_to_the_largest_f1_and_says_so() {
    let noted = |rule| {
        let trained = trained(&Parameters {
            threshold_rule: rule,
            ..parameters()
        });
        (
            trained.confusion,
            trained.artifact.notes["threshold_rule"].clone(),
        )
    };
    let kept = noted(ThresholdRule::BestRecall { precision_min: 0.5 });
    assert_eq!(kept.1, "best_recall");
    assert!(kept.0.precision().value().unwrap() >= 0.5);
    let unreachable = noted(ThresholdRule::BestRecall { precision_min: 1.1 });
    assert_eq!(unreachable, noted(ThresholdRule::BestF1));
    assert_eq!(unreachable.1, "best_f1");
}

#[test]
fn too_little_is_refused_with_its_numbers() {
    let refuse = |parameters: &Parameters, training: Slice, threshold: &Slice| {
        train(parameters, &identity(), training, threshold, &Silent)
            .unwrap_err()
            .to_string()
    };
    let (good, few) = (square(500, 1), square(99, 1));
    assert_eq!(
        refuse(&parameters(), few, &good),
        "the training slice has 99 labelled rows, 100 are needed"
    );

    let mut genuine = square(500, 1);
    genuine.labels.fill(false);
    assert_eq!(
        refuse(&parameters(), genuine.clone(), &good),
        "the training slice has 0 fraud rows, 10 are needed"
    );
    assert_eq!(
        refuse(&parameters(), good.clone(), &genuine),
        "the threshold slice has 0 fraud rows, 5 are needed"
    );

    let mut empty_column = square(500, 1);
    empty_column.columns[1].values = Values::Numeric(vec![f64::NAN; 500]);
    assert_eq!(
        refuse(&parameters(), empty_column, &good),
        "feature `b` has no value in the training slice"
    );

    let nothing = Parameters {
        logistic: None,
        forest: None,
        ..parameters()
    };
    assert_eq!(
        refuse(&nothing, good.clone(), &good),
        "no algorithm is switched on"
    );
}

#[test]
fn a_constant_column_does_no_harm() {
    let constant = |mut slice: Slice| {
        let values = Values::Numeric(vec![0.1 + 0.2; slice.len()]);
        slice.columns.push(NamedColumn {
            name: "constant".to_owned(),
            values,
        });
        slice
    };
    let with = train(
        &parameters(),
        &identity(),
        constant(square(2_000, 1)),
        &constant(square(1_000, 2)),
        &Silent,
    );
    assert!(
        with.unwrap()
            .candidates
            .iter()
            .all(|candidate| candidate.average_precision.is_finite())
    );
}

#[test]
fn thinning_is_even_repeatable_and_keeps_the_order() {
    let slice = square(3_000, 1);
    let (once, again) = (slice.clone().thinned(500, 4), slice.clone().thinned(500, 4));
    assert_eq!(format!("{once:?}"), format!("{again:?}"));
    assert_eq!(once.len(), 500);
    assert_ne!(once.labels, slice.clone().thinned(500, 5).labels);
    let Values::Numeric(all) = &slice.columns[1].values else {
        panic!("not numbers")
    };
    let Values::Numeric(kept) = &once.columns[1].values else {
        panic!("not numbers")
    };
    let mut places = kept
        .iter()
        .map(|value| all.iter().position(|other| other == value).unwrap());
    let first = places.next().unwrap();
    places.fold(first, |before, place| {
        assert!(place > before);
        place
    });
    assert_eq!(slice.clone().thinned(3_000, 4).len(), 3_000);
}

/// Asks to stop after some questions, and counts how often it was told of progress afterwards.
struct StopAfter {
    questions_left: AtomicUsize,
}

impl Watch for StopAfter {
    fn progress(&self, _: Stage, done: f64) {
        assert!((0.0..=1.0).contains(&done));
    }

    fn cancelled(&self) -> bool {
        self.questions_left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .is_err()
    }
}

#[test]
fn a_training_stops_between_groups_of_trees_when_asked() {
    // Two questions before encoding, three between the groups of 25 trees, one at the end.
    for questions in 0..6 {
        let watch = StopAfter {
            questions_left: AtomicUsize::new(questions),
        };
        let result = train(
            &parameters(),
            &identity(),
            square(1_000, 1),
            &square(500, 2),
            &watch,
        );
        assert_eq!(
            result.unwrap_err(),
            TrainingError::Cancelled,
            "after {questions} questions"
        );
    }
    let patient = StopAfter {
        questions_left: AtomicUsize::new(100),
    };
    assert!(
        train(
            &parameters(),
            &identity(),
            square(1_000, 1),
            &square(500, 2),
            &patient
        )
        .is_ok()
    );
}
