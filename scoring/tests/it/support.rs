//! Small models whose scores can be worked out by hand.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemas::{ModelName, Window};
use scoring::{
    Body, Encoding, FORMAT, Feature, Forest, LEAF, Logistic, ModelArtifact, Standardisation, Tree,
};

pub fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a valid instant")
}

pub fn numeric(name: &str, impute: f64) -> Feature {
    Feature {
        name: name.to_owned(),
        encoding: Encoding::Numeric {
            impute,
            standardise: None,
        },
    }
}

pub fn category(name: &str, levels: &[&str]) -> Feature {
    let levels = levels.iter().map(|level| (*level).to_owned()).collect();
    Feature {
        name: name.to_owned(),
        encoding: Encoding::Category { levels },
    }
}

pub fn artifact(features: Vec<Feature>, body: Body) -> ModelArtifact {
    ModelArtifact {
        format: FORMAT.to_owned(),
        model: ModelName::new("fraud-cards").expect("a valid name"),
        algorithm: "by_hand".to_owned(),
        created: at("2026-05-01T00:00:00Z"),
        seed: 7,
        training_window: Window::new(at("2026-04-01T00:00:00Z"), at("2026-04-15T00:00:00Z"))
            .expect("a window"),
        operating_threshold: 0.5,
        features,
        body,
        notes: BTreeMap::new(),
    }
}

/// Amount above 220 → 0.9; else country FR → 0.1, anything else → 0.4.
pub fn stump_and_country() -> ModelArtifact {
    let tree = Tree {
        feature: vec![0, 1, LEAF, LEAF, LEAF],
        threshold: vec![220.0, 0.5, 0.0, 0.0, 0.0],
        left: vec![1, 3, 0, 0, 0],
        right: vec![2, 4, 0, 0, 0],
        value: vec![0.0, 0.0, 0.9, 0.4, 0.1],
    };
    artifact(
        vec![numeric("amount", 50.0), category("country", &["FR", "BE"])],
        Body::Forest(Forest { trees: vec![tree] }),
    )
}

/// Log-odds = −1 + 2 · (amount − 50) / 10.
pub fn standardised_logistic() -> ModelArtifact {
    let scale = Standardisation { mean: 50.0, sd: 10.0 };
    let encoding = Encoding::Numeric {
        impute: 50.0,
        standardise: Some(scale),
    };
    artifact(
        vec![Feature {
            name: "amount".to_owned(),
            encoding,
        }],
        Body::Logistic(Logistic {
            intercept: -1.0,
            coefficients: vec![2.0],
        }),
    )
}
