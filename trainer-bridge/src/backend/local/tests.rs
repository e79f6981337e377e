//! Runs that are cancelled, left, or stumble.

use std::sync::atomic::AtomicUsize;

use chrono::TimeDelta;
use schemas::{DecisionId, JobId};

use super::*;
use crate::job::{Plan, SplitLengths};
use crate::training::{ForestParameters, NamedColumn, ThresholdRule, Values};

/// Rows at once; the first `stumbles` questions get no answer.
#[derive(Debug, Default)]
struct Rows {
    stumbles: AtomicUsize,
}

fn slice(rows: u32) -> Slice {
    let even = |row: u32, salt: u32| f64::from((row * 7_919 + salt * 104_729) % 10_007) / 10_007.0;
    let values = (0..rows).map(|row| even(row, 1)).collect();
    Slice {
        columns: vec![NamedColumn {
            name: "x".to_owned(),
            values: Values::Numeric(values),
        }],
        labels: (0..rows)
            .map(|row| even(row, 1) > 0.9 || even(row, 2) > 0.98)
            .collect(),
    }
}

impl Loader for Rows {
    fn oldest<'a>(&'a self, _: &'a ModelName) -> Asking<'a> {
        Box::pin(async { Ok(None) })
    }

    fn load<'a>(&'a self, _: &'a Order) -> Loading<'a> {
        Box::pin(async {
            let stumbles = |left: usize| left.checked_sub(1);
            if self
                .stumbles
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, stumbles)
                .is_ok()
            {
                return Err(LoadError::Transient("the line is cut".to_owned()));
            }
            Ok(Loaded {
                training: slice(5_000),
                threshold: slice(1_000),
            })
        })
    }
}

struct Bench {
    local: Local,
    stop: CancellationToken,
    order: Order,
    run: RunRef,
    _folder: tempfile::TempDir,
}

/// `trees` decides how long a training takes.
fn bench(trees: usize, stumbles: usize, unobserved_max: Duration) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let parameters = Parameters {
        logistic: None,
        forest: Some(ForestParameters {
            trees,
            depth_max: 12,
            inputs_per_split: None,
            leaf_rows_min: 1,
        }),
        threshold_rule: ThresholdRule::BestF1,
        rows_min: 10,
        rows_max: 100_000,
        frauds_min: 1,
        threshold_frauds_min: 1,
        levels_max: 10,
        threads: 1,
        seed: 1,
    };
    let pace = Pace {
        poll_first: Duration::ZERO,
        poll_longest: Duration::ZERO,
        sticky: true,
    };
    let stop = CancellationToken::new();
    let loader = Arc::new(Rows {
        stumbles: AtomicUsize::new(stumbles),
    });
    let artifacts = ArtifactStore::new(folder.path()).unwrap();
    let local = Local::new(loader, parameters, artifacts, pace, unobserved_max, stop.clone());
    let as_of = "2026-03-01T00:00:00Z".parse().unwrap();
    let day = TimeDelta::days(1);
    let lengths = SplitLengths {
        training: day,
        threshold: day,
        holdout: day,
    };
    let order = Order {
        job_id: JobId::of_key("job"),
        model: "m".parse().unwrap(),
        decision_id: DecisionId::of_key("decision"),
        as_of,
        plan: Plan::new(as_of, day, lengths, 1).unwrap(),
    };
    let run = RunRef {
        run_id: "local-1".to_owned(),
        url: None,
    };
    Bench {
        local,
        stop,
        order,
        run,
        _folder: folder,
    }
}

impl Bench {
    async fn look(&self) -> Result<Observation, BackendError> {
        self.local
            .observe(&self.order, "token", &self.run, DateTime::UNIX_EPOCH)
            .await
    }

    /// Looks until there is something else than work in progress.
    async fn ends(&self) -> Result<Observation, BackendError> {
        for _ in 0..6_000 {
            match self.look().await {
                Ok(Observation::InProgress { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
                other => return other,
            }
        }
        panic!("the run does not end")
    }

    /// Waits until trees grow.
    async fn grows(&self) {
        for _ in 0..6_000 {
            match self.look().await.unwrap() {
                Observation::InProgress { detail } if detail.starts_with("random_forest") => return,
                Observation::InProgress { .. } => tokio::time::sleep(Duration::from_millis(10)).await,
                other => panic!("it ended before: {other:?}"),
            }
        }
        panic!("no tree grows")
    }
}

const FOR_EVER: usize = 100_000;

#[tokio::test]
async fn a_run_ends_with_its_candidate_and_says_so_again_when_asked_again() {
    let bench = bench(10, 0, Duration::from_mins(1));
    let Ok(Observation::Finished(first)) = bench.ends().await else {
        panic!("no candidate")
    };
    assert_eq!(first.training_rows, 5_000);
    // The answer may be lost before it is written down.
    assert_eq!(bench.look().await, Ok(Observation::Finished(first)));
}

#[tokio::test]
async fn a_cancelled_run_stops_between_groups_of_trees() {
    let bench = bench(FOR_EVER, 0, Duration::from_mins(1));
    bench.grows().await;
    bench.local.cancel(&bench.run).await.unwrap();
    assert!(matches!(bench.ends().await, Ok(Observation::Cancelled { .. })));
}

#[tokio::test]
async fn a_run_that_nobody_looks_at_stops_and_is_no_cancelled_one() {
    let bench = bench(FOR_EVER, 0, Duration::from_millis(100));
    bench.grows().await;
    // Nobody looks; the next look finds that it was left, and the one after begins anew.
    let turn = Arc::clone(&bench.local.turn);
    drop(turn.acquire().await.unwrap());
    assert!(matches!(bench.look().await, Err(BackendError::Transient { .. })));
    assert!(matches!(bench.look().await, Ok(Observation::InProgress { .. })));
}

#[tokio::test]
async fn a_process_that_stops_leaves_its_runs_to_others() {
    let bench = bench(FOR_EVER, 0, Duration::from_mins(1));
    bench.grows().await;
    bench.stop.cancel();
    assert!(matches!(bench.ends().await, Err(BackendError::Transient { .. })));
}

#[tokio::test]
async fn a_source_that_stumbles_is_asked_again() {
    let bench = bench(10, 1, Duration::from_mins(1));
    assert!(
        matches!(bench.ends().await, Err(BackendError::Transient { detail, .. }) if detail == "the line is cut")
    );
    assert!(matches!(bench.ends().await, Ok(Observation::Finished(_))));
}
