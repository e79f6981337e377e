//! The trainer-bridge as a service: settings become tasks.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chassis::rest::Credentials;
use chassis::service::{Context, Definition, Service, Tasks};
use chassis::{Reader, consume};
use chrono::TimeDelta;
use schemas::ModelName;
use serde_json::{Map, Value, json};
use sqlx::migrate::Migrator;
use transactions::ModelDefinition;
use uuid::Uuid;

use crate::artifacts::ArtifactStore;
use crate::backend::databricks::{Client, Databricks, DatabricksSettings};
use crate::backend::local::{Loader, Local};
use crate::backend::{Backend, Pace};
use crate::config::{ALIASES, BridgeSettings, DatabricksAccess, Tracking};
use crate::decide::Policy;
use crate::handle::{BridgeHandler, KINDS};
use crate::metrics::BridgeMetrics;
use crate::promote;
use crate::reconcile;
use crate::registry::embedded::Embedded;
use crate::registry::mlflow::Mlflow;
use crate::registry::{Registry, mlflow_client};
use crate::source::Sources;
use crate::work::{self, Bridge};

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// How long after the deadline a remote run may resist being cancelled.
const CANCEL_GRACE: Duration = Duration::from_mins(10);
/// Pause between looks at a local run, which cost one query.
const LOCAL_PACE: Pace = Pace {
    poll_first: Duration::from_millis(250),
    poll_longest: Duration::from_secs(2),
    sticky: true,
};

/// Requests become models.
#[derive(Debug)]
pub struct TrainerBridge;

impl Service for TrainerBridge {
    const DEFINITION: Definition = Definition {
        name: "trainer-bridge",
        schema: "trainer_bridge",
        about: "runs trainings, on Databricks or here; registers and promotes models",
        defaults: &[transactions::DEFAULTS, include_str!("../config/default.toml")],
        aliases: &[ALIASES, transactions::ALIASES],
        migrator: &MIGRATOR,
    };
    type Config = BridgeSettings;

    fn configure(reader: &Reader<'_>) -> BridgeSettings {
        BridgeSettings::read(reader)
    }

    async fn start(settings: BridgeSettings, context: Context, tasks: &mut Tasks) -> anyhow::Result<()> {
        let bridge = Arc::new(bridge(&settings, &context)?);
        let handler = Arc::new(handler(&settings));
        tracing::info!(
            "new trainings run on {}, models are registered in the {} registry, artefacts lie in `{}`",
            settings.backend.as_str(),
            bridge.registry.name(),
            bridge.artifacts.folder().display(),
        );
        tasks.spawn("consume", consume::run(context.clone(), KINDS, handler));
        tasks.spawn("work", work::run(context.clone(), Arc::clone(&bridge)));
        tasks.spawn("promote", promote::run(context.clone(), Arc::clone(&bridge)));
        tasks.spawn("reconcile", reconcile::run(context, bridge));
        Ok(())
    }
}

fn handler(settings: &BridgeSettings) -> BridgeHandler {
    let delay =
        |definition: &ModelDefinition| TimeDelta::from_std(definition.label_delay).unwrap_or(TimeDelta::MAX);
    BridgeHandler {
        service: TrainerBridge::DEFINITION.name,
        backend: settings.backend,
        label_delays: settings
            .models
            .iter()
            .map(|definition| (definition.model.clone(), delay(definition)))
            .collect(),
        lengths: settings.lengths,
        seed: settings.parameters.seed,
        deadline: settings.deadline,
        promote_within: settings.register_within,
    }
}

fn bridge(settings: &BridgeSettings, context: &Context) -> anyhow::Result<Bridge> {
    let artifacts = ArtifactStore::new(&settings.artifacts).with_context(|| {
        format!(
            "use the folder `{}` (setting `artifacts.dir`)",
            settings.artifacts.display()
        )
    })?;
    let loader: Arc<dyn Loader> = Arc::new(Sources::new(
        settings.models.clone(),
        settings.access.readers(&context.pool)?,
        settings.sources,
        settings.parameters.rows_max,
    ));
    let local = Local::new(
        Arc::clone(&loader),
        settings.parameters.clone(),
        artifacts.clone(),
        LOCAL_PACE,
        settings.lease * 2 + Duration::from_secs(10),
        context.stop.clone(),
    );
    let mut backends: Vec<Arc<dyn Backend>> = vec![Arc::new(local)];
    if let Some(access) = &settings.databricks {
        backends.push(Arc::new(databricks(settings, access, artifacts.clone())?));
    }
    let registry: Arc<dyn Registry> = match &settings.mlflow {
        None => Arc::new(Embedded),
        Some(mlflow) => {
            chassis::outgoing::warn_http("mlflow.tracking_uri", &mlflow.uri);
            let client =
                mlflow_client::Client::new(mlflow.uri.clone(), mlflow.credentials.clone(), mlflow.timeout)
                    .context("make the MLflow client")?;
            Arc::new(Mlflow::new(client, mlflow.experiment.clone()))
        }
    };
    Ok(Bridge {
        backends,
        loader,
        registry,
        artifacts,
        policy: Policy {
            attempts_max: settings.attempts_max,
            cancel_grace: CANCEL_GRACE,
            slice_min: settings.slice_min,
            retry: settings.retry,
        },
        lease: settings.lease,
        register_within: settings.register_within,
        owner: Uuid::new_v4(),
        metrics: BridgeMetrics::new(&context.metrics),
    })
}

fn databricks(
    settings: &BridgeSettings,
    access: &DatabricksAccess,
    artifacts: ArtifactStore,
) -> anyhow::Result<Databricks> {
    let client = Client::new(access.host.clone(), access.credentials.clone(), access.timeout)
        .context("make the Databricks client")?;
    let workspace = || (access.host.clone(), access.credentials.clone());
    let (uri, credentials) = match (&access.tracking, &settings.mlflow) {
        (Tracking::At(uri), Some(mlflow)) if *uri == mlflow.uri => (uri.clone(), mlflow.credentials.clone()),
        (Tracking::At(uri), _) => (uri.clone(), Credentials::None),
        (Tracking::AsRegistry, Some(mlflow)) => (mlflow.uri.clone(), mlflow.credentials.clone()),
        (Tracking::AsRegistry, None) | (Tracking::Workspace, _) => workspace(),
    };
    let tracking =
        mlflow_client::Client::new(uri, credentials, access.timeout).context("make the MLflow client")?;
    let own = DatabricksSettings {
        what: access.what.clone(),
        experiment: access.experiment.clone(),
        pace: Pace {
            poll_first: access.poll_first,
            poll_longest: access.poll_longest,
            sticky: false,
        },
        sources: settings.models.iter().map(told_of).collect(),
    };
    Ok(Databricks::new(client, tracking, artifacts, own))
}

/// What a notebook is told of a model's data: where it is and which column means what, never a row.
fn told_of(definition: &ModelDefinition) -> (ModelName, Map<String, Value>) {
    let features: Vec<&str> = definition
        .features
        .iter()
        .map(|feature| feature.column.as_str())
        .collect();
    let mut told = Map::new();
    for (key, value) in [
        ("table", definition.source.to_string()),
        ("time_column", definition.time.clone()),
        ("label_column", definition.label.clone()),
        (
            "label_time_column",
            definition.label_time.clone().unwrap_or_default(),
        ),
        (
            "label_delay_seconds",
            definition.label_delay.as_secs().to_string(),
        ),
        // A JSON array: names of columns may hold commas.
        ("features", json!(features).to_string()),
    ] {
        told.insert(key.to_owned(), Value::String(value));
    }
    (definition.model.clone(), told)
}
