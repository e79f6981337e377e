//! Watches that what has ended stays as it ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use tokio::task::JoinHandle;

/// Every row that has ended, by what it is and its key, with what must not change any more.
const ENDED: &str = "select 'training job ' || job_id, state || ' ' || reported_at || ' ' || revision \
     from trainer_bridge.training_job where job_id = any($1) or state = 'reported' \
     union all select 'promotion ' || promotion_id, state || ' ' || coalesce(ended_at::text, '') || ' ' || revision \
     from trainer_bridge.promotion where promotion_id = any($1) or state <> 'intent' \
     union all select 'trigger ' || decision_id, status || ' ' || coalesce(completed_at::text, '') \
     from retrain_decider.trigger where decision_id = any($1) or status in ('completed', 'failed', 'declined') \
     union all select 'alert ' || alert_id, state || ' ' || attempts \
     from notifier.alert where alert_id = any($1) or state = 'sent'";

/// How often it looks.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct Seen {
    rows: HashMap<String, String>,
    changed: Vec<String>,
}

/// The watch. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Begins to watch.
    pub fn start(pool: PgPool) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                // A database that is away is looked at later.
                let _away = look(&pool, &shared).await;
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        });
        Self { seen, task }
    }

    /// Does not look of its own any more: it reads every row that has ended, and many of them take a core.
    pub fn rest(&self) {
        self.task.abort();
    }

    /// Looks once more, now.
    ///
    /// # Errors
    /// Database errors.
    pub async fn look(&self, pool: &PgPool) -> anyhow::Result<()> {
        look(pool, &self.seen).await
    }

    /// What had ended and changed all the same.
    pub fn changed(&self) -> Vec<String> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .changed
            .clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn look(pool: &PgPool, seen: &Mutex<Seen>) -> anyhow::Result<()> {
    let known: Vec<uuid::Uuid> = {
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let ids = seen
            .rows
            .keys()
            .filter_map(|key| key.rsplit(' ').next()?.parse().ok());
        ids.collect()
    };
    let rows: Vec<(String, String)> = sqlx::query_as(ENDED).bind(known).fetch_all(pool).await?;
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    for (key, now) in rows {
        match seen.rows.get(&key) {
            Some(before) if *before != now => {
                let change = format!("{key} had ended as `{before}` and is `{now}`");
                seen.changed.push(change);
                seen.rows.insert(key, now);
            }
            Some(_) => {}
            None => {
                seen.rows.insert(key, now);
            }
        }
    }
    Ok(())
}
