//! Bytes, digests and the rules of the format.

use scoring::{
    Body, Encoding, InvalidArtifact, LEAF, LoadError, ModelArtifact, Standardisation, digest_of, load,
};

use crate::support::{standardised_logistic, stump_and_country};

#[test]
fn a_written_artefact_is_read_back_with_its_digest() {
    for artifact in [stump_and_country(), standardised_logistic()] {
        let bytes = artifact.to_bytes().unwrap();
        assert_eq!(
            bytes,
            artifact.to_bytes().unwrap(),
            "the same artefact, the same bytes"
        );
        assert_eq!(*load(&bytes, &digest_of(&bytes)).unwrap().artifact(), artifact);
    }
}

#[test]
fn the_digest_is_the_published_sha_256() {
    let of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(digest_of(b"abc").as_str(), of_abc);
}

#[test]
fn one_changed_byte_is_refused_and_both_digests_are_named() {
    let bytes = stump_and_country().to_bytes().unwrap();
    let expected = digest_of(&bytes);
    let position = bytes.windows(3).position(|part| part == b"0.9").unwrap();
    let mut swapped = bytes.clone();
    swapped[position + 2] = b'8';
    let message = load(&swapped, &expected).unwrap_err().to_string();
    assert!(message.contains(expected.as_str()), "{message}");
    assert!(message.contains(digest_of(&swapped).as_str()), "{message}");
}

#[test]
fn a_document_by_hand_is_read() {
    let text = r#"{
        "format": "vigie.model.v1", "model": "fraud-cards", "algorithm": "notebook",
        "created": "2026-05-01T02:03:04Z", "seed": 1,
        "training_window": {"start": "2026-04-01T00:00:00Z", "end": "2026-04-15T00:00:00Z"},
        "operating_threshold": 0.25,
        "features": [{"name": "amount", "encoding": {"numeric": {"impute": 5}}}],
        "body": {"logistic": {"intercept": 0, "coefficients": [1]}}
    }"#;
    let model = load(text.as_bytes(), &digest_of(text.as_bytes())).unwrap();
    assert_eq!(model.operating_threshold(), 0.25);
}

#[test]
fn a_field_that_could_change_the_scores_is_refused_and_a_note_is_kept() {
    let artifact = stump_and_country();
    let text = String::from_utf8(artifact.to_bytes().unwrap()).unwrap();
    let unknown = text.replacen("\"seed\"", "\"calibration\":[1],\"seed\"", 1);
    assert!(matches!(
        load(unknown.as_bytes(), &digest_of(unknown.as_bytes())),
        Err(LoadError::Malformed(_))
    ));
    let noted = text.replacen("\"notes\":{}", "\"notes\":{\"library\":\"x 1.2\"}", 1);
    let model = load(noted.as_bytes(), &digest_of(noted.as_bytes())).unwrap();
    assert_eq!(model.artifact().notes["library"], "x 1.2");
}

#[test]
fn every_broken_rule_is_named() {
    type Break = fn(&mut ModelArtifact);
    let trees: [(Break, &str); 9] = [
        (|a| a.format = "vigie.model.v2".to_owned(), "format is"),
        (|a| a.operating_threshold = 1.5, "operating_threshold `1.5`"),
        (|a| a.features.clear(), "0 features"),
        (
            |a| a.features[1].name = "amount".to_owned(),
            "feature `amount`: it is listed twice",
        ),
        (
            |a| a.features[1].encoding = Encoding::Category { levels: vec![] },
            "lists no level",
        ),
        (
            |a| tree(a).left[1] = 1,
            "tree 0, node 1: a child is not a later node",
        ),
        (
            |a| tree(a).right[0] = 5,
            "tree 0, node 0: a child is not a later node",
        ),
        (
            |a| tree(a).feature[0] = 3,
            "tree 0, node 0: it tests an input that does not exist",
        ),
        (|a| tree(a).value[2] = 1.1, "tree 0, node 2: a leaf's value"),
    ];
    for (break_it, expected) in trees {
        let mut artifact = stump_and_country();
        break_it(&mut artifact);
        let message = artifact.validate().unwrap_err().to_string();
        assert!(message.contains(expected), "{message} does not say {expected}");
    }
    let more: [(Break, &str); 5] = [
        (|a| tree(a).feature[1] = -2, "an input that does not exist"),
        (
            |a| tree(a).threshold[0] = f64::NAN,
            "its threshold is not a finite number",
        ),
        (|a| tree(a).value.truncate(1), "the arrays differ in length"),
        (|a| *tree(a) = scoring::Tree::default(), "there is no root"),
        (|a| trees_of(a).clear(), "0 trees"),
    ];
    for (break_it, expected) in more {
        let mut artifact = stump_and_country();
        break_it(&mut artifact);
        let message = artifact.validate().unwrap_err().to_string();
        assert!(message.contains(expected), "{message} does not say {expected}");
    }
    let logistic: [(Break, &str); 3] = [
        (|a| coefficients(a).push(0.0), "exactly one coefficient per input"),
        (|a| coefficients(a)[0] = f64::INFINITY, "not a finite number"),
        (
            |a| {
                let scale = Standardisation { mean: 0.0, sd: 0.0 };
                a.features[0].encoding = Encoding::Numeric {
                    impute: 0.0,
                    standardise: Some(scale),
                };
            },
            "sd is not a finite number above 0",
        ),
    ];
    for (break_it, expected) in logistic {
        let mut artifact = standardised_logistic();
        break_it(&mut artifact);
        let message = artifact.validate().unwrap_err().to_string();
        assert!(message.contains(expected), "{message} does not say {expected}");
    }
}

#[test]
fn a_tree_that_points_back_to_its_root_is_refused_before_anyone_walks_it() {
    let mut artifact = stump_and_country();
    tree(&mut artifact).left[1] = 0;
    let bytes = artifact.to_bytes().unwrap();
    assert!(matches!(
        load(&bytes, &digest_of(&bytes)),
        Err(LoadError::Invalid(InvalidArtifact::Tree { tree: 0, node: 1, .. }))
    ));
    assert_eq!(tree(&mut artifact).feature[2], LEAF);
}

fn trees_of(artifact: &mut ModelArtifact) -> &mut Vec<scoring::Tree> {
    match &mut artifact.body {
        Body::Forest(forest) => &mut forest.trees,
        Body::Logistic(_) => panic!("not a forest"),
    }
}

fn tree(artifact: &mut ModelArtifact) -> &mut scoring::Tree {
    &mut trees_of(artifact)[0]
}

fn coefficients(artifact: &mut ModelArtifact) -> &mut Vec<f64> {
    match &mut artifact.body {
        Body::Logistic(logistic) => &mut logistic.coefficients,
        Body::Forest(_) => panic!("not a logistic regression"),
    }
}
