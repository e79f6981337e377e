//! The model document that training writes and everybody else reads.

use bad_input::{Target, Verdict};
use scoring::{Column, Encoding, LoadError, Model, Rows, digest_of, load};

const WORDS: &[&str] = &[
    "\"feature\":",
    "\"threshold\":",
    "\"left\":[",
    "\"value\":",
    "-1",
    "4294967295",
    "2147483647",
    "1e308",
    "-0.0",
    "\"forest\":",
    "\"logistic\":",
    "\"levels\":[",
    "\"sd\":0",
    "\"numeric\":",
    "\"category\":",
    "[[[[",
    "{\"a\":",
];
const BYTES_MAX: usize = 262_144;

fn scores(model: &Model) -> Vec<f64> {
    let amounts = [0.0, 220.0, 1e308, -1e308, f64::NAN, f64::INFINITY];
    let texts = ["FR", "", "\u{0}", "DE", "x", "FR"].map(|text| Some(text.to_owned()));
    let mut rows = Rows::new(amounts.len());
    for feature in &model.artifact().features {
        let column = match feature.encoding {
            Encoding::Numeric { .. } => Column::Numeric(&amounts),
            Encoding::Category { .. } => Column::Text(&texts),
        };
        rows = rows.with(&feature.name, column).unwrap();
    }
    model.score_rows(&rows).unwrap()
}

fn read(input: &[u8]) -> Verdict {
    match load(input, &digest_of(input)) {
        Ok(model) => {
            assert!(scores(&model).iter().all(|score| (0.0..=1.0).contains(score)));
            let written = model.artifact().to_bytes().unwrap();
            let again = load(&written, &digest_of(&written)).unwrap();
            assert_eq!(again.artifact(), model.artifact());
            assert_eq!(again.artifact().to_bytes().unwrap(), written);
            Ok(())
        }
        Err(error) => {
            assert!(error.to_string().chars().count() < 2_000, "{error}");
            Err(match error {
                LoadError::Digest { .. } => "digest",
                LoadError::TooLarge { .. } => "too_large",
                LoadError::Malformed(_) => "malformed",
                LoadError::Invalid(_) => "invalid",
            }
            .to_owned())
        }
    }
}

#[test]
fn any_artefact_is_refused_or_scores_shares_and_survives() {
    let target = Target {
        name: "artefact",
        words: WORDS,
        samples: Vec::new(),
        bytes_max: BYTES_MAX,
        slow: false,
        read: &read,
    };
    target.run();
}
