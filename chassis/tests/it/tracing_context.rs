//! One trace runs through outbox, headers and consumers, and is exported.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use chassis::bus::STREAM;
use chassis::outbox::{self, Draft};
use chassis::telemetry::{self, TelemetrySettings};
use chassis::{Cause, HandleError, Handler, Tx};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use schemas::events::{DriftCheckRequested, RetrainAsked};
use schemas::flow::VIGIE;
use schemas::{EventKind, Received};
use tracing::Instrument as _;

use crate::support::{Bench, Running, eventually, handled, messages, model, obliging};

/// Spans that arrived, each with its service.
type Sink = Arc<Mutex<Vec<(String, Span)>>>;

async fn receiver() -> (SocketAddr, Sink) {
    let sink = Sink::default();
    let kept = Arc::clone(&sink);
    let take = move |body: Bytes| async move {
        let request = ExportTraceServiceRequest::decode(body).expect("an OTLP request");
        let mut spans = kept.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in request.resource_spans {
            let service = resource
                .resource
                .iter()
                .flat_map(|resource| &resource.attributes)
                .find(|attribute| attribute.key == "service.name")
                .map(|attribute| format!("{:?}", attribute.value))
                .unwrap_or_default();
            let scopes = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.extend(scopes.map(|span| (service.clone(), span)));
        }
        (
            [("content-type", "application/x-protobuf")],
            ExportTraceServiceResponse::default().encode_to_vec(),
        )
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/v1/traces", post(take));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, sink)
}

/// Says `retrain.asked` because of `drift.check.requested`.
struct Asks;

impl Handler for Asks {
    type Prepared = ();

    async fn handle(&self, tx: &mut Tx, received: &Received, (): &()) -> Result<(), HandleError> {
        let body = RetrainAsked {
            as_of: received.attributes.time,
            requested_by: "one".to_owned(),
            reason: "test".to_owned(),
            force: false,
        };
        outbox::append(
            tx,
            VIGIE,
            Draft::new(&received.attributes.model, Cause::event(received), body),
        )
        .await?;
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// From the first event to the last reader.
const SPANS: [&str; 3] = [
    "begin the loop",
    "process drift.check.requested",
    "process retrain.asked",
];

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_runs_from_the_first_event_to_the_last_reader() {
    let (address, sink) = receiver().await;
    let settings = TelemetrySettings {
        otlp_endpoint: Some(format!("http://{address}").parse().unwrap()),
        sample: 1.0,
        log: "off".to_owned(),
        json: false,
    };
    // The only test of this binary that installs telemetry: it is one for the process.
    let telemetry = telemetry::init(&settings, "vigie-test").unwrap();
    let bench = Bench::new().await;
    let (nats, database) = (&bench.env.nats_url, &bench.env.database_url);
    let one = bench.replica_of("one", "one", nats, database).await;
    let two = bench.replica_of("two", "two", nats, database).await;
    let tasks = [
        Running::relay(&one),
        Running::consumer(&one, Asks),
        Running::consumer_of(&two, &[EventKind::RetrainAsked], obliging()),
    ];
    let origin = tracing::info_span!("begin the loop");
    let appended = async {
        let mut tx = one.pool.begin().await.unwrap();
        let body = DriftCheckRequested {
            as_of: "2026-01-01T00:00:00Z".parse().unwrap(),
            requested_by: "test".to_owned(),
            reason: String::new(),
        };
        let appended = outbox::append(&mut tx, VIGIE, Draft::new(&model(), Cause::Spontaneous, body))
            .await
            .unwrap();
        tx.commit().await.unwrap();
        (appended, telemetry::current_trace())
    }
    .instrument(origin.clone())
    .await;
    drop(origin);
    let (appended, origin_trace) = appended;
    let trace_id = origin_trace.trace_id().expect("a span has a trace").to_owned();
    let asked = Cause::Event {
        id: appended.id,
        correlation_id: appended.correlation_id,
    }
    .event_id(EventKind::RetrainAsked, "");
    handled(&two.pool, asked).await;
    for message in messages(&one.bus, STREAM).await {
        let header = |name: &str| {
            message
                .headers
                .get(name)
                .map(ToString::to_string)
                .unwrap_or_default()
        };
        assert!(
            header("traceparent").contains(&trace_id),
            "{}: {:?}",
            message.subject,
            message.headers
        );
        assert_eq!(
            header("traceparent"),
            header("ce-traceparent"),
            "{}",
            message.subject
        );
    }
    for task in tasks {
        task.stop().await;
    }
    telemetry.flush().await;
    let spans = eventually("the spans arrive", async || {
        let spans: Vec<(String, Span)> = sink
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter(|(_, span)| hex(&span.trace_id) == trace_id)
            .cloned()
            .collect();
        let all = SPANS
            .iter()
            .all(|name| spans.iter().any(|(_, span)| span.name == *name));
        all.then_some(spans)
    })
    .await;
    // A message may come again, and each delivery has a span of its own: all of them continue the writer's.
    let named = |name: &str| -> Vec<&(String, Span)> {
        let found: Vec<&(String, Span)> = spans.iter().filter(|(_, span)| span.name == name).collect();
        assert!(
            !found.is_empty(),
            "a span `{name}`: {:?}",
            spans.iter().map(|(_, s)| &s.name).collect::<Vec<_>>()
        );
        found
    };
    let [begin, checks, asked_spans] = SPANS.map(named);
    assert_eq!(begin.len(), 1, "the writer began once");
    let begin = begin[0];
    assert!(begin.0.contains("vigie-test"), "{}", begin.0);
    for check in &checks {
        assert_eq!(
            check.1.parent_span_id, begin.1.span_id,
            "the reader's span continues the writer's"
        );
    }
    for asked_span in &asked_spans {
        assert!(
            checks
                .iter()
                .any(|check| asked_span.1.parent_span_id == check.1.span_id),
            "the second reader's span continues one of the first reader's"
        );
    }
    let consumer_kind = 5;
    for reader in checks.iter().chain(&asked_spans) {
        assert_eq!(reader.1.kind, consumer_kind);
    }
    let asked_span = asked_spans[0];
    let attribute = |span: &Span, key: &str| {
        span.attributes
            .iter()
            .find(|attribute| attribute.key == key)
            .map(|found| format!("{:?}", found.value))
    };
    assert!(attribute(&asked_span.1, "messaging.system").is_some_and(|value| value.contains("nats")));
    assert!(
        attribute(&asked_span.1, "messaging.message.id")
            .is_some_and(|value| value.contains(&asked.to_string()))
    );
    assert!(
        attribute(&asked_span.1, "messaging.message.conversation_id")
            .is_some_and(|value| value.contains(&appended.correlation_id.to_string()))
    );
}
