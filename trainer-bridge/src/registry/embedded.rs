//! The embedded registry: the tables of this service, shown as `public.model_versions`.
//!
//! Nothing outside PostgreSQL has to be told, so both calls are done before they are made; `store` writes version and
//! champion in the transaction that announces them.

use schemas::ModelName;

use super::{Answer, Promoting, Registering, Registration, Registry};

/// The embedded registry.
#[derive(Debug, Clone, Copy, Default)]
pub struct Embedded;

impl Registry for Embedded {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn register<'a>(&'a self, candidate: &'a Registering<'a>) -> Answer<'a, Registration> {
        Box::pin(async move {
            Ok(Registration {
                registry_version: None,
                run_id: candidate.candidate.mlflow_run_id.clone(),
                model_uri: None,
            })
        })
    }

    fn promote<'a>(&'a self, _: &'a Promoting) -> Answer<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn champion<'a>(&'a self, _: &'a ModelName) -> Answer<'a, Option<String>> {
        Box::pin(async { Ok(None) })
    }
}
