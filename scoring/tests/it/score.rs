//! Scores that can be worked out by hand.

use scoring::{Column, MISSING, Model, Rows, ScoreError};

use crate::support::{standardised_logistic, stump_and_country};

#[test]
fn a_tree_goes_left_at_its_threshold_and_imputes_what_is_missing() {
    let model = Model::new(stump_and_country()).unwrap();
    let cases = [
        // amount        country       score
        (220.0, Some("FR"), 0.1), // the threshold itself goes left
        (220.01, Some("FR"), 0.9),
        (10.0, Some("BE"), 0.4),
        (10.0, Some("DE"), 0.4),          // no level: all zeros
        (10.0, None, 0.4),                // missing: all zeros
        (f64::NAN, Some("FR"), 0.1),      // missing: imputed with 50
        (f64::INFINITY, Some("FR"), 0.1), // no number either
    ];
    let amounts: Vec<f64> = cases.iter().map(|case| case.0).collect();
    let countries: Vec<Option<String>> = cases.iter().map(|case| case.1.map(str::to_owned)).collect();
    let rows = Rows::new(cases.len())
        .with("country", Column::Text(&countries))
        .unwrap()
        .with("amount", Column::Numeric(&amounts))
        .unwrap();
    let scores = model.score_rows(&rows).unwrap();
    for (case, score) in cases.iter().zip(&scores) {
        assert_eq!(*score, case.2, "{case:?}");
    }
}

#[test]
fn codes_and_texts_of_the_same_categories_score_alike() {
    let model = Model::new(stump_and_country()).unwrap();
    let amounts = [10.0; 4];
    let dictionary = ["DE".to_owned(), "FR".to_owned()];
    let rows = Rows::new(4)
        .with("amount", Column::Numeric(&amounts))
        .unwrap()
        .with(
            "country",
            Column::Category {
                codes: &[1, 0, MISSING, 1],
                dictionary: &dictionary,
            },
        )
        .unwrap();
    assert_eq!(model.score_rows(&rows).unwrap(), [0.1, 0.4, 0.4, 0.1]);
}

#[test]
fn a_logistic_regression_standardises_and_takes_the_sigmoid() {
    let model = Model::new(standardised_logistic()).unwrap();
    let amounts = [50.0, 55.0, 1e9, -1e9, f64::NAN];
    let rows = Rows::new(5).with("amount", Column::Numeric(&amounts)).unwrap();
    let scores = model.score_rows(&rows).unwrap();
    let at_the_mean = 1.0 / (1.0 + 1.0_f64.exp());
    assert_eq!(scores, [at_the_mean, 0.5, 1.0, 0.0, at_the_mean]);
}

#[test]
fn more_rows_than_a_block_keep_their_order() {
    let model = Model::new(standardised_logistic()).unwrap();
    let amounts: Vec<f64> = (0..2_000).map(|row| 20.0 + f64::from(row) / 40.0).collect();
    let rows = Rows::new(amounts.len())
        .with("amount", Column::Numeric(&amounts))
        .unwrap();
    let scores = model.score_rows(&rows).unwrap();
    assert!(scores.windows(2).all(|pair| pair[0] < pair[1]));
    let none = Rows::new(0).with("amount", Column::Numeric(&[])).unwrap();
    assert!(model.score_rows(&none).unwrap().is_empty());
}

#[test]
fn what_the_model_cannot_read_is_an_error_not_a_missing_value() {
    let model = Model::new(stump_and_country()).unwrap();
    let countries = [Some("FR".to_owned())];
    let without_amount = Rows::new(1).with("country", Column::Text(&countries)).unwrap();
    assert_eq!(
        model.score_rows(&without_amount),
        Err(ScoreError::ColumnMissing {
            column: "amount".to_owned()
        })
    );

    let swapped = Rows::new(1)
        .with("amount", Column::Text(&countries))
        .unwrap()
        .with("country", Column::Numeric(&[1.0]))
        .unwrap();
    assert!(matches!(model.score_rows(&swapped), Err(ScoreError::Kind { column, .. }) if column == "amount"));

    let bad_code = Rows::new(1)
        .with("amount", Column::Numeric(&[1.0]))
        .unwrap()
        .with(
            "country",
            Column::Category {
                codes: &[7],
                dictionary: &[],
            },
        )
        .unwrap();
    assert!(matches!(
        model.score_rows(&bad_code),
        Err(ScoreError::Code { code: 7, .. })
    ));

    assert!(matches!(
        Rows::new(2).with("amount", Column::Numeric(&[1.0])),
        Err(ScoreError::Length {
            found: 1,
            rows: 2,
            ..
        })
    ));
}
