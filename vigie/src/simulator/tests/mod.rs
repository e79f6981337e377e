//! What the simulated stream must be, as a whole.

mod drifts;
mod features;
mod files;
mod stream;

use super::{DayBatch, FeatureValues, Origins, SimulateOptions, Simulator};

fn small() -> SimulateOptions {
    SimulateOptions {
        customers: 60,
        terminals: 500,
        days: 40,
        warm_up_days: 3,
        ..SimulateOptions::default()
    }
}

fn planted(texts: &[&str]) -> SimulateOptions {
    SimulateOptions {
        drifts: texts.iter().map(|text| text.parse().unwrap()).collect(),
        ..small()
    }
}

fn days(options: &SimulateOptions) -> Vec<DayBatch> {
    Simulator::new(options).unwrap().collect()
}

fn origins(day: &DayBatch) -> &Origins {
    day.origins.as_ref().unwrap()
}

/// Everything of a batch as text; equal texts are equal batches, missing values included.
fn shown(day: &DayBatch) -> String {
    let features: Vec<String> = day
        .features
        .iter()
        .map(|feature| match &feature.values {
            FeatureValues::Number(values) => {
                let bits: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
                format!("{} {bits:x?}", feature.name)
            }
            FeatureValues::Text(values) => format!("{} {values:?}", feature.name),
        })
        .collect();
    format!(
        "{:?} {:?} {:?} {features:?} {:?}",
        day.times, day.labels, day.label_times, day.origins
    )
}

/// FNV-1a, 64 bits, over every value in a form that no library decides on.
fn digest(days: &[DayBatch]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for day in days {
        let origins = origins(day);
        for at in 0..day.len() {
            add(&day.times[at].timestamp().to_le_bytes());
            add(&origins.transactions[at].to_le_bytes());
            add(&origins.customers[at].to_le_bytes());
            add(&origins.terminals[at].to_le_bytes());
            add(&origins.scenarios[at].code().to_le_bytes());
        }
        for feature in &day.features {
            match &feature.values {
                FeatureValues::Number(values) => {
                    for value in values {
                        add(&value.to_bits().to_le_bytes());
                    }
                }
                FeatureValues::Text(values) => {
                    for value in values {
                        add(value.as_deref().unwrap_or("-").as_bytes());
                    }
                }
            }
        }
    }
    hash
}
