//! Logs and traces.
//!
//! Spans are always recorded, so that every event carries a trace context; they are exported by OTLP over
//! HTTP when an endpoint is set. The context is captured when the outbox row is written, travels in the
//! event's headers, and becomes the parent of the reader's span: one trace runs from the check to the
//! promotion. Names of messaging attributes follow OpenTelemetry's messaging conventions 1.44, kept in this file.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use schemas::{Received, TraceContext};
use tracing::Span;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::{MakeWriter, format};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, filter::Targets};

use crate::outgoing;
use crate::settings::Reader;

/// Longest wait for the collector.
const EXPORT_WITHIN: Duration = Duration::from_secs(5);

/// What to log and where to send spans.
#[derive(Debug, Clone)]
pub struct TelemetrySettings {
    /// OTLP over HTTP; none exports nothing.
    pub otlp_endpoint: Option<url::Url>,
    /// Share of traces kept, 0 to 1.
    pub sample: f64,
    /// Filter of log lines.
    pub log: String,
    /// JSON lines instead of text.
    pub json: bool,
}

impl TelemetrySettings {
    /// Reads `[telemetry]`.
    pub fn read(reader: &Reader<'_>) -> Self {
        let section = reader.section("telemetry");
        let expected = "a log filter such as `info` or `info,chassis=debug`";
        let log = section.parsed("log", expected, |text| {
            EnvFilter::try_new(text).map(|_| text.to_owned())
        });
        let otlp_endpoint = section.optional_url("otlp_endpoint", &["http", "https"]);
        outgoing::check_http(&section, "otlp_endpoint", otlp_endpoint.as_ref());
        Self {
            otlp_endpoint,
            sample: section.number("sample", 0.0..=1.0),
            log: log.unwrap_or_else(|| "info".to_owned()),
            json: section.choice("log_format", &[("text", false), ("json", true)]),
        }
    }
}

/// Keeps telemetry alive; flush it last.
#[derive(Debug)]
pub struct Telemetry {
    provider: SdkTracerProvider,
}

impl Telemetry {
    /// Sends what is left, waiting at most five seconds.
    pub async fn flush(self) {
        let provider = self.provider;
        // The exporter blocks; it must not block a worker of the runtime.
        let outcome =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(Duration::from_secs(5))).await;
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("spans may be missing: {error}"),
            Err(error) => tracing::warn!("spans may be missing: {error}"),
        }
    }
}

/// Installs logs and traces for the process. `service` is the `service.name` of its spans.
///
/// # Errors
/// When the exporter cannot be built, or telemetry was installed before.
pub fn init(settings: &TelemetrySettings, service: &str) -> anyhow::Result<Telemetry> {
    let provider = provider(settings, service)?;
    let tracer = provider.tracer("vigie");
    // Only our own spans: the exporter's and the clients' would feed themselves.
    let ours = Targets::new().with_default(LevelFilter::INFO).with_targets(
        [
            "h2",
            "hyper",
            "hyper_util",
            "reqwest",
            "rustls",
            "tonic",
            "tower",
            "sqlx",
            "async_nats",
            "opentelemetry",
            "opentelemetry_sdk",
            "opentelemetry-otlp",
        ]
        .map(|target| (target, LevelFilter::OFF)),
    );
    let filter = EnvFilter::try_new(&settings.log).context("read `telemetry.log`")?;
    let logs = log_layer(settings.json, use_colour(), std::io::stderr);
    tracing_subscriber::registry()
        .with(logs.with_filter(filter))
        .with(
            tracing_opentelemetry::layer()
                .with_tracer(tracer)
                .with_filter(ours),
        )
        .try_init()
        .context("install telemetry")?;
    if let Some(url) = &settings.otlp_endpoint {
        outgoing::warn_http("telemetry.otlp_endpoint", url);
    }
    Ok(Telemetry { provider })
}

/// One event is one line, whatever its fields hold.
fn log_layer<S, W>(json: bool, colour: bool, writer: W) -> Box<dyn tracing_subscriber::Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let logs = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_target(true);
    if json {
        logs.json().boxed()
    } else {
        let fields = format::debug_fn(|writer, field, value| {
            let text = crate::text::visible(&format!("{value:?}"));
            match field.name() {
                "message" => write!(writer, "{text}"),
                name => write!(writer, "{name}={text}"),
            }
        });
        logs.fmt_fields(fields.delimited(" ")).with_ansi(colour).boxed()
    }
}

fn use_colour() -> bool {
    use std::io::IsTerminal as _;
    std::env::var_os("NO_COLOR").is_none() && std::io::stderr().is_terminal()
}

fn provider(settings: &TelemetrySettings, service: &str) -> anyhow::Result<SdkTracerProvider> {
    let resource = Resource::builder().with_service_name(service.to_owned()).build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample)));
    let mut builder = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(sampler);
    if let Some(endpoint) = &settings.otlp_endpoint {
        // The exporter's client needs a TLS provider even for a plain address.
        crate::install_crypto();
        let url = format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/'));
        let client = outgoing::blocking_client(EXPORT_WITHIN).context("make a client for the collector")?;
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(url)
            .with_timeout(EXPORT_WITHIN)
            .build()
            .context("build the OTLP exporter")?;
        builder = builder.with_batch_exporter(exporter);
    }
    Ok(builder.build())
}

/// The trace context of the current span, for an event or a row.
pub fn current_trace() -> TraceContext {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut carrier);
    TraceContext {
        parent: carrier.remove("traceparent"),
        state: carrier.remove("tracestate").filter(|state| !state.is_empty()),
    }
}

/// Makes `trace` the parent of `span`.
pub fn continue_trace(span: &Span, trace: &TraceContext) {
    let Some(parent) = &trace.parent else { return };
    let mut carrier = HashMap::from([("traceparent".to_owned(), parent.clone())]);
    if let Some(state) = &trace.state {
        carrier.insert("tracestate".to_owned(), state.clone());
    }
    if let Err(error) = span.set_parent(TraceContextPropagator::new().extract(&carrier)) {
        tracing::debug!("trace is not continued: {error}");
    }
}

/// The span in which a delivery is processed, continuing the event's trace.
pub(crate) fn process_span(service: &str, subject: &str, received: Option<&Received>) -> Span {
    let span = tracing::info_span!(
        "process",
        otel.name = format!("process {subject}"),
        otel.kind = "consumer",
        messaging.system = "nats",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.destination.name = subject,
        messaging.consumer.group.name = service,
        messaging.message.id = tracing::field::Empty,
        messaging.message.conversation_id = tracing::field::Empty,
        service = service,
    );
    if let Some(received) = received {
        let attributes = &received.attributes;
        span.record("messaging.message.id", attributes.id.to_string());
        span.record(
            "messaging.message.conversation_id",
            attributes.correlation_id.to_string(),
        );
        continue_trace(&span, &attributes.trace);
    }
    span
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex, PoisonError};

    use local_stack::hostile::NAMES;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::log_layer;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool, name: &str) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::registry().with(log_layer(json, false, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("work", model.name = name);
            let _entered = span.enter();
            tracing::error!(model.name = %name, reason = name, "event for {name} failed: {:#}", anyhow::anyhow!("{name}"));
        });
        let bytes = kept.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn hostile_names_stay_in_their_log_line_in_both_formats() {
        for name in NAMES {
            for json in [false, true] {
                let text = logged(json, name);
                let line = text.strip_suffix('\n').unwrap();
                if json {
                    // JSON escapes what is below a space; what else a name holds is for machines to read.
                    assert!(!line.chars().any(|c| c < ' '), "{line:?}");
                    let value: serde_json::Value = serde_json::from_str(line).unwrap();
                    assert_eq!(value["fields"]["model.name"], *name);
                } else {
                    assert!(!line.chars().any(char::is_control), "{line:?}");
                    assert!(!line.contains(['\u{2028}', '\u{202e}', '\u{200b}']), "{line:?}");
                }
            }
        }
    }
}
