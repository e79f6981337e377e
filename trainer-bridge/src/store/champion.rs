//! Who was champion when: the table `promotion`, and what was said about each promotion, for good, in `event_log`.

use std::collections::BTreeMap;

use chassis::Cause;
use chrono::{DateTime, Utc};
use schemas::events::ModelPromoted;
use schemas::{EventId, EventKind, ModelName};
use sqlx::PgPool;
use uuid::Uuid;

use super::unreadable;

/// A version as champion of its model.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Reign {
    /// The model.
    pub model: String,
    /// The champion.
    pub version: String,
    /// Digest of its bytes, as the promotion announced it, or else as the registry has it.
    pub sha256: String,
    /// Digest in the registry's table, where the version is in it; another one than `sha256` is a contradiction.
    pub registered_sha256: Option<String>,
    /// When it came into force.
    pub effective_from: DateTime<Utc>,
    /// When its successor did; none for the champion of today.
    pub until: Option<DateTime<Utc>>,
    /// The event that announced it, `model.promoted`.
    pub promotion_event_id: EventId,
    /// Whether that event is on record; promotions that are older than the record are known from the table alone.
    pub on_record: bool,
    /// Strictly increasing over the champions of a model.
    pub fence: i64,
}

#[derive(sqlx::FromRow)]
struct Promoted {
    model: String,
    version: String,
    fence: i64,
    sha256: Option<String>,
    ended_at: Option<DateTime<Utc>>,
    deployed_at: Option<DateTime<Utc>>,
    cause_event_id: Uuid,
    correlation_id: Uuid,
}

/// Every champion of every model, or of one: by model, oldest first. Reads the schema of trainer-bridge, whatever is on the
/// search path; nothing when there is none.
///
/// # Errors
/// Database errors.
pub async fn reigns(pool: &PgPool, model: Option<&ModelName>) -> sqlx::Result<Vec<Reign>> {
    let (installed,): (bool,) = sqlx::query_as(
        "select to_regclass('trainer_bridge.promotion') is not null and to_regclass('trainer_bridge.event_log') is not null",
    )
    .fetch_one(pool)
    .await?;
    if !installed {
        return Ok(Vec::new());
    }
    let model = model.map(ModelName::as_str);
    let rows: Vec<Promoted> = sqlx::query_as(
        "select p.model, p.version, p.fence, v.artifact ->> 'sha256' as sha256, p.ended_at, v.deployed_at, \
         p.cause_event_id, p.correlation_id \
         from trainer_bridge.promotion p join trainer_bridge.model_version v on v.version = p.version \
         where p.state = 'promoted' and ($1::text is null or p.model = $1)",
    )
    .bind(model)
    .fetch_all(pool)
    .await?;
    // A fence belongs to one promotion of a model.
    let mut reigns: BTreeMap<(String, i64), Reign> = BTreeMap::new();
    for row in rows {
        let reign = row.reign()?;
        reigns.insert((reign.model.clone(), reign.fence), reign);
    }
    let said: Vec<(Uuid, String, Option<Vec<u8>>)> = sqlx::query_as(
        "select event_id, model, body from trainer_bridge.event_log \
         where what = 'said' and event_type = $1 and ($2::text is null or model = $2)",
    )
    .bind(EventKind::ModelPromoted.ce_type())
    .bind(model)
    .fetch_all(pool)
    .await?;
    for (event_id, model, body) in said {
        let promoted: ModelPromoted = serde_json::from_slice(&body.unwrap_or_default())
            .map_err(|error| unreadable("event_log.body", error))?;
        let fence = promoted.fence.cast_signed();
        let known = reigns.get(&(model.clone(), fence));
        let reign = Reign {
            registered_sha256: known.and_then(|known| known.registered_sha256.clone()),
            model: model.clone(),
            version: promoted.version.to_string(),
            sha256: promoted.artifact.sha256.to_string(),
            effective_from: promoted.effective_from,
            until: None,
            promotion_event_id: event_id.into(),
            on_record: true,
            fence,
        };
        reigns.insert((model, fence), reign);
    }
    Ok(one_after_the_other(reigns.into_values().collect()))
}

impl Promoted {
    fn reign(self) -> sqlx::Result<Reign> {
        let cause = Cause::Event {
            id: self.cause_event_id.into(),
            correlation_id: self.correlation_id.into(),
        };
        let effective_from = self.ended_at.max(self.deployed_at);
        Ok(Reign {
            promotion_event_id: cause.event_id(EventKind::ModelPromoted, ""),
            model: self.model,
            version: self.version,
            sha256: self.sha256.clone().unwrap_or_default(),
            registered_sha256: self.sha256,
            effective_from: effective_from
                .ok_or_else(|| unreadable("promotion.ended_at", "it is null, and the promotion is done"))?,
            until: None,
            on_record: false,
            fence: self.fence,
        })
    }
}

/// Each ends when the next of its model begins.
fn one_after_the_other(mut reigns: Vec<Reign>) -> Vec<Reign> {
    for at in 1..reigns.len() {
        if reigns[at - 1].model == reigns[at].model {
            reigns[at - 1].until = Some(reigns[at].effective_from);
        }
    }
    reigns
}
