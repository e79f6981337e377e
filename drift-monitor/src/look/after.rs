//! Asked after the verdict, which stands without it: since when, and in which segments, features moved.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use chassis::Tx;
use chassis::db::while_reading;
use chrono::{DateTime, TimeDelta, Utc};
use schemas::{ModelName, ModelVersion};
use transactions::ModelDefinition;

use super::{Looked, Watch};
use crate::by_segment::Rows;
use crate::reference::SegmentsOf;
use crate::segments::{self, Profiles, SegmentShift, Segments};
use crate::store::{self, Champion, Span};

/// How far back hours are asked since when something moved.
const LOOK_BACK: TimeDelta = TimeDelta::days(30);

/// Longest that segments are read for, in readings of a source.
const SEGMENT_READINGS: u32 = 3;

/// What was found by segment.
#[derive(Debug, Default)]
struct BySegment {
    /// In which segments each feature moved.
    told: BTreeMap<String, Vec<SegmentShift>>,
    /// The reference by segment, if it was counted now.
    counted: Option<Vec<SegmentsOf>>,
}

impl Watch {
    /// Adds what is known of the hours before those that were looked at: it says since when something moved.
    pub async fn look_back(
        &self,
        tx: &mut Tx,
        definition: &ModelDefinition,
        looked: &mut Looked,
    ) -> anyhow::Result<()> {
        let (Some(champion), Some(counts)) = (&looked.champion, &mut looked.counts) else {
            return Ok(());
        };
        let Some(first) = counts.hours.keys().next().copied() else {
            return Ok(());
        };
        let earlier = Span {
            model: &definition.model,
            version: &champion.version,
            start: first - LOOK_BACK,
            end: first,
        };
        counts.hours.extend(store::profiles(tx, earlier).await?);
        Ok(())
    }

    /// Adds in which segments features moved, where the model has columns of segments. The verdict stands without it: when they cannot
    /// be read, or not soon enough, the log says so, and the next check tries again.
    pub async fn look_by_segment(
        &self,
        tx: &mut Tx,
        definition: &ModelDefinition,
        as_of: DateTime<Utc>,
        moved: &BTreeSet<&str>,
        looked: &mut Looked,
    ) -> anyhow::Result<()> {
        let Some(champion) = looked
            .champion
            .clone()
            .filter(|_| !definition.segments.is_empty())
        else {
            return Ok(());
        };
        let model = &definition.model;
        let longest = self.reading_max() * SEGMENT_READINGS;
        let reading = Box::pin(self.by_segment(definition, &champion, as_of, moved, looked));
        let why = match while_reading(tx, longest, tokio::time::timeout(longest, reading)).await? {
            Ok(Ok(BySegment { told, counted })) => {
                looked.segments = told;
                if let Some(counted) = counted {
                    store::save_segments(tx, model, &champion.version, &counted).await?;
                    self.remember_segments(model, &champion.version, counted);
                }
                return Ok(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not read within {} s", longest.as_secs()),
        };
        tracing::warn!(model.name = %model, "model `{model}`: it is not told in which segments features moved: {why}");
        Ok(())
    }

    async fn by_segment(
        &self,
        definition: &ModelDefinition,
        champion: &Champion,
        as_of: DateTime<Utc>,
        moved: &BTreeSet<&str>,
        looked: &Looked,
    ) -> anyhow::Result<BySegment> {
        let Some(counts) = &looked.counts else {
            return Ok(BySegment::default());
        };
        let source = self.open(definition).await?;
        let all = &counts.reference;
        let positions: Vec<usize> = (0..all.features.len())
            .filter(|at| moved.contains(all.features[*at].as_str()))
            .collect();
        let reference = all.of_features(&positions);
        let of_moved = |profiles: &Profiles| -> Profiles {
            let parts = profiles.iter();
            parts
                .map(|(level, part)| (level.clone(), part.of_features(&positions)))
                .collect()
        };
        let mut counted = None;
        let before: Vec<Profiles> = if looked.compared.is_empty() {
            let kept = match all.by_segment(&definition.segments) {
                Some(kept) => kept,
                None => {
                    let window = all.window.unwrap_or(champion.training_window);
                    let rows = Rows {
                        source: &source,
                        windows: &[window],
                        as_of: champion.promoted_as_of,
                    };
                    let profiles = rows.by_segment(all, None).await?;
                    let named = definition.segments.iter().cloned().zip(profiles);
                    let fresh = named.map(|(column, profiles)| SegmentsOf { column, profiles });
                    &*counted.insert(fresh.collect::<Vec<_>>())
                }
            };
            kept.iter().map(|segments| of_moved(&segments.profiles)).collect()
        } else {
            let rows = Rows {
                source: &source,
                windows: &looked.compared,
                as_of,
            };
            rows.by_segment(&reference, None).await?
        };
        let rows = Rows {
            source: &source,
            windows: &[self.data_window(as_of)?],
            as_of,
        };
        let now = rows.by_segment(&reference, Some(&before)).await?;
        let segments: Vec<Segments> = definition
            .segments
            .iter()
            .zip(before.into_iter().zip(now))
            .map(|(column, (before, now))| Segments {
                column: column.clone(),
                profiles: [before, now],
            })
            .collect();
        let current = counts.window.of_features(&positions);
        let limits = &self.config.limits;
        let found = segments::moved(&segments, &reference, &current, limits, all.features.len());
        Ok(BySegment {
            told: reference.features.into_iter().zip(found).collect(),
            counted,
        })
    }

    fn remember_segments(&self, model: &ModelName, version: &ModelVersion, segments: Vec<SegmentsOf>) {
        let mut references = self.references.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, reference)) = references.get_mut(model).filter(|(of, _)| of == version) {
            Arc::make_mut(reference).segments = segments;
        }
    }
}
