//! The notifier as a service: settings become tasks.

use std::sync::Arc;

use chassis::service::{Context, Definition, Service, Tasks};
use chassis::{Reader, consume};
use schemas::events::Channel;
use sqlx::migrate::Migrator;

use crate::config::{ALIASES, MailRoute, NotifySettings};
use crate::deliver::{self, Delivery};
use crate::handle::{KINDS, NotifyHandler};
use crate::metrics::AlertMetrics;
use crate::outlet::Outlets;

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// Commands of one delivery that may each take the whole timeout.
const STEPS_PER_SEND: u32 = 4;

/// Events become mail and Slack messages.
#[derive(Debug)]
pub struct Notifier;

impl Service for Notifier {
    const DEFINITION: Definition = Definition {
        name: "notifier",
        schema: "notifier",
        about: "events become mail and Slack messages, each event and recipient once",
        defaults: &[include_str!("../config/default.toml")],
        aliases: &[ALIASES],
        migrator: &MIGRATOR,
    };
    type Config = NotifySettings;

    fn configure(reader: &Reader<'_>) -> NotifySettings {
        NotifySettings::read(reader)
    }

    async fn start(settings: NotifySettings, context: Context, tasks: &mut Tasks) -> anyhow::Result<()> {
        say_where_alerts_go(&settings);
        let metrics = AlertMetrics::new(&context.metrics);
        let delivery = Arc::new(Delivery {
            outlets: Outlets::new(&settings)?,
            retry: settings.retry,
            send_timeout: settings.timeout * STEPS_PER_SEND,
            probe_every: settings.probe_every,
            metrics: metrics.clone(),
        });
        let handler = Arc::new(NotifyHandler {
            recipients: settings.recipients,
        });
        tasks.spawn("consume", consume::run(context.clone(), KINDS, handler));
        tasks.spawn(
            "deliver-email",
            deliver::run(context.clone(), Arc::clone(&delivery), Channel::Email),
        );
        tasks.spawn(
            "deliver-slack",
            deliver::run(context.clone(), delivery, Channel::Slack),
        );
        tasks.spawn("count", deliver::count(context, metrics));
        Ok(())
    }
}

fn say_where_alerts_go(settings: &NotifySettings) {
    match &settings.mail {
        Some(MailRoute::Smtp(smtp)) => tracing::info!("mails go to {}:{}", smtp.host, smtp.port),
        Some(MailRoute::Mailbox(folder)) => tracing::info!("mails are written to `{}`", folder.display()),
        None => {}
    }
    if settings.slack.is_some() {
        tracing::info!("messages go to a Slack webhook");
    }
    if settings.recipients.is_empty() {
        tracing::warn!(
            "NOBODY IS TOLD: set `notify.smtp.host` (ALERT_EMAIL_SMTP_HOST) and `notify.recipients` \
             (ALERT_EMAIL_RECIPIENTS), or `notify.slack_webhook` (ALERT_SLACK_WEBHOOK), \
             or `notify.mailbox` for development; until then alerts only show up in this log"
        );
    }
}
