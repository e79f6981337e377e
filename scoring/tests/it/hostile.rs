//! Properties: whatever the document holds, reading and scoring end without a panic, and scores are shares.

use proptest::prelude::*;
use scoring::{Body, Column, Forest, LEAF, Model, Rows, Tree, digest_of, load};

use crate::support::{artifact, numeric, stump_and_country};

fn score_all(model: &Model) -> Vec<f64> {
    let amounts = [0.0, 220.0, 1e308, -1e308, f64::NAN, f64::INFINITY];
    let countries = ["FR", "BE", "", "DE", "x", "FR"].map(|text| Some(text.to_owned()));
    let mut rows = Rows::new(amounts.len());
    for feature in &model.artifact().features {
        let column = match feature.encoding {
            scoring::Encoding::Numeric { .. } => Column::Numeric(&amounts),
            scoring::Encoding::Category { .. } => Column::Text(&countries),
        };
        rows = rows.with(&feature.name, column).unwrap();
    }
    model.score_rows(&rows).unwrap()
}

/// What a tree gives for one row, written down as plainly as possible.
fn walk(tree: &Tree, node: usize, input: f64) -> f64 {
    if tree.feature[node] == LEAF {
        return tree.value[node];
    }
    let child = if input <= tree.threshold[node] {
        tree.left[node]
    } else {
        tree.right[node]
    };
    walk(tree, child as usize, input)
}

/// Arrays of about the right shape: many break a rule, some do not.
fn any_tree() -> impl Strategy<Value = Tree> {
    (1_usize..9).prop_flat_map(|nodes| {
        let child = || prop::collection::vec(0..nodes as u32 + 1, nodes);
        (
            prop::collection::vec(-2..2_i32, nodes),
            prop::collection::vec(-1.5..1.5_f64, nodes),
            child(),
            child(),
            prop::collection::vec(-0.1..1.1_f64, nodes),
        )
            .prop_map(|(feature, threshold, left, right, value)| Tree {
                feature,
                threshold,
                left,
                right,
                value,
            })
    })
}

/// A tree that keeps every rule: node `n` has the children `2n + 1` and `2n + 2`.
fn any_valid_tree() -> impl Strategy<Value = Tree> {
    (0_usize..4).prop_flat_map(|depth| {
        let inner = (1 << depth) - 1;
        let nodes = 2 * inner + 1;
        let numbers = prop::collection::vec(0.0..1.0_f64, nodes);
        (numbers.clone(), numbers).prop_map(move |(threshold, value)| Tree {
            feature: (0..nodes)
                .map(|node| if node < inner { 0 } else { LEAF })
                .collect(),
            threshold,
            left: (0..nodes)
                .map(|node| if node < inner { 2 * node as u32 + 1 } else { 0 })
                .collect(),
            right: (0..nodes)
                .map(|node| if node < inner { 2 * node as u32 + 2 } else { 0 })
                .collect(),
            value,
        })
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(load(&bytes, &digest_of(&bytes)).is_err());
    }

    #[test]
    fn a_document_with_any_byte_changed_never_panics(position in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = stump_and_country().to_bytes().unwrap();
        let position = position.index(bytes.len());
        bytes[position] = byte;
        if let Ok(model) = load(&bytes, &digest_of(&bytes)) {
            prop_assert!(score_all(&model).iter().all(|score| (0.0..=1.0).contains(score)));
        }
    }

    #[test]
    fn any_tree_is_refused_or_ends_at_a_share(trees in prop::collection::vec(any_tree(), 1..3)) {
        let hostile = artifact(vec![numeric("amount", 0.0)], Body::Forest(Forest { trees }));
        if let Ok(model) = Model::new(hostile) {
            prop_assert!(score_all(&model).iter().all(|score| (0.0..=1.0).contains(score)));
        }
    }

    #[test]
    fn a_forest_is_the_mean_of_its_trees(
        trees in prop::collection::vec(any_valid_tree(), 1..6),
        inputs in prop::collection::vec(-0.2..1.2_f64, 1..1_200),
    ) {
        let expected: Vec<f64> = inputs
            .iter()
            .map(|input| trees.iter().map(|tree| walk(tree, 0, *input)).sum::<f64>() / trees.len() as f64)
            .collect();
        let model = Model::new(artifact(vec![numeric("amount", 0.0)], Body::Forest(Forest { trees }))).unwrap();
        let rows = Rows::new(inputs.len()).with("amount", Column::Numeric(&inputs)).unwrap();
        prop_assert_eq!(model.score_rows(&rows).unwrap(), expected);
    }

    #[test]
    fn writing_and_reading_changes_nothing(trees in prop::collection::vec(any_valid_tree(), 1..4)) {
        let written = artifact(vec![numeric("amount", 0.1 + 0.2)], Body::Forest(Forest { trees }));
        let bytes = written.to_bytes().unwrap();
        let read = load(&bytes, &digest_of(&bytes)).unwrap();
        prop_assert_eq!(read.artifact(), &written);
        prop_assert_eq!(read.artifact().to_bytes().unwrap(), bytes);
    }
}
