//! How sources are reached, as settings: the database and the warehouse, and how long a reading may take.

use std::time::Duration;

use anyhow::Context as _;
use chassis::rest::{Credentials, Endpoint};
use chassis::{Alias, Reader, Secret, outgoing, transport};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use url::Url;

use crate::warehouse::Warehouse;

/// Connections that read sources, per service.
const READERS: u32 = 4;
/// Longest wait for one of them.
const READER_WAIT: Duration = Duration::from_secs(60);
/// How much later than a query's end its answer may arrive; a connection that is silent for longer is given up.
pub(crate) const ANSWER_SLACK: Duration = Duration::from_secs(10);

/// Second names of these settings, for the services that read transactions.
pub const ALIASES: &[Alias] = &[
    Alias {
        name: "DATABRICKS_HOST",
        key: "warehouse.host",
    },
    Alias {
        name: "DATABRICKS_TOKEN",
        key: "warehouse.token",
    },
    Alias {
        name: "DATABRICKS_WAREHOUSE_ID",
        key: "warehouse.id",
    },
];

/// Through what sources are read.
#[derive(Debug, Clone)]
pub struct Readers {
    pub(crate) pool: PgPool,
    pub(crate) warehouse: Option<Warehouse>,
}

impl Readers {
    /// Connections of their own to the database of `pool`, and no warehouse.
    ///
    /// Whoever reads while it holds a transaction of `pool` needs them: with one pool for both, as many readers as there
    /// are connections would wait for each other.
    pub fn beside(pool: &PgPool) -> Self {
        limits()
            .connect_lazy_with(pool.connect_options().as_ref().clone())
            .into()
    }
}

impl From<PgPool> for Readers {
    fn from(pool: PgPool) -> Self {
        Self {
            pool,
            warehouse: None,
        }
    }
}

/// Which database and which warehouse sources are read from.
#[derive(Debug, Clone)]
pub struct SourceAccess {
    /// A database, or a role, of their own; none reads as the service itself.
    url: Option<Secret>,
    warehouse: Option<WarehouseAccess>,
}

/// How to reach a SQL warehouse.
#[derive(Debug, Clone)]
struct WarehouseAccess {
    host: Url,
    token: Secret,
    id: String,
    /// Longest wait for one answer.
    timeout: Duration,
}

impl SourceAccess {
    /// Reads `[transactions]` and `[warehouse]`.
    pub fn read(reader: &Reader<'_>) -> Self {
        let section = reader.section("transactions");
        let url = section.optional_text("url");
        chassis::db::check_url(&section, "url", url.as_deref().unwrap_or_default());
        Self {
            url: url.map(Secret::new),
            warehouse: WarehouseAccess::read(reader),
        }
    }

    /// Connections that may only read; made when they are needed.
    ///
    /// # Errors
    /// When an address cannot be used.
    pub fn readers(&self, service: &PgPool) -> anyhow::Result<Readers> {
        let readers = match &self.url {
            None => Readers::beside(service),
            Some(url) => database(url)?.into(),
        };
        let warehouse = self.warehouse.as_ref().map(WarehouseAccess::open);
        Ok(Readers {
            warehouse: warehouse
                .transpose()
                .context("make the client of the warehouse")?,
            ..readers
        })
    }
}

fn database(url: &Secret) -> anyhow::Result<PgPool> {
    let shown = chassis::db::shown_url(url.expose());
    chassis::transport::warn("transactions.url", &shown, chassis::db::is_exposed(url.expose()));
    let options: PgConnectOptions = url.expose().parse().context("read `transactions.url`")?;
    let options = options.application_name("vigie-source").options([
        ("timezone", "UTC"),
        ("default_transaction_read_only", "on"),
        // A reader that stands still has been given up.
        ("idle_in_transaction_session_timeout", "5min"),
    ]);
    Ok(limits().connect_lazy_with(options))
}

fn limits() -> PgPoolOptions {
    chassis::db::pool_options()
        .max_connections(READERS)
        .acquire_timeout(READER_WAIT)
}

impl WarehouseAccess {
    /// Nothing unless a model's rows are in a warehouse: host and token may be there for trainings alone.
    fn read(reader: &Reader<'_>) -> Option<Self> {
        let section = reader.section("warehouse");
        let models = reader.section("models").tables();
        let user = models
            .iter()
            .find(|(_, model)| model.optional_text("source").as_deref() == Some("databricks"));
        let timeout = section.duration("timeout", Duration::from_secs(1)..=Duration::from_mins(10));
        let host = section.optional_url("host", &["https", "http"]);
        if let Some(host) = &host {
            outgoing::check_address(&section, "host", Some(host));
            if transport::is_exposed_http(host) {
                // A token travels to where anybody may be in between: there is no leave for that.
                section.problem("host", "an `https://` URL; `http://` only to a loopback address");
            }
            if host.path() != "/" || host.query().is_some() {
                section.problem(
                    "host",
                    "scheme and host only, e.g. `https://adb-1.2.azuredatabricks.net`: the paths of the API are added to it",
                );
            }
        }
        let (name, _) = user?;
        for (key, what) in [
            (
                "host",
                "the workspace, e.g. `https://adb-1.2.azuredatabricks.net`",
            ),
            ("token", "a token"),
            (
                "id",
                "the id of a SQL warehouse, from its page under \"Connection details\"",
            ),
        ] {
            if !section.is_set(key) {
                section.problem(
                    key,
                    format!("{what}, because `models.{name}.source` is `databricks`"),
                );
            }
        }
        Some(Self {
            host: host?,
            token: section.optional_secret("token")?,
            id: section.optional_text("id")?,
            timeout,
        })
    }

    fn open(&self) -> anyhow::Result<Warehouse> {
        let credentials = Credentials::Bearer(self.token.clone());
        let endpoint = Endpoint::new(self.host.clone(), credentials, self.timeout)?;
        Ok(Warehouse::new(endpoint, self.id.clone()))
    }
}

/// How sources are read.
#[derive(Debug, Clone, Copy)]
pub struct SourceSettings {
    /// Longest time that one query may take.
    pub statement_timeout: Duration,
}

impl SourceSettings {
    /// Longest that one reading of a source takes, the wait for a connection included: the server ends it by then, or the
    /// reader does.
    pub fn reading_max(self) -> Duration {
        self.statement_timeout + READER_WAIT + ANSWER_SLACK
    }

    /// Reads `[transactions]`.
    pub fn read(reader: &Reader<'_>) -> Self {
        let range = Duration::from_secs(1)..=Duration::from_hours(1);
        Self {
            statement_timeout: reader
                .section("transactions")
                .duration("statement_timeout", range),
        }
    }
}
