//! Whatever arrives on our subjects: it is parked or ignored as designed, and the flow goes on.

use async_nats::HeaderMap;
use chassis::bus::STREAM_DEAD;
use schemas::DATA_BYTES_MAX;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::TcpStream;

use crate::support::{
    Bench, Running, count, dead_letters, effects_of, eventually, handled, headers_of, messages, obliging,
    sample, send, send_sample,
};

/// A good event's headers with one changed.
fn with(name: &str, value: &str) -> HeaderMap {
    let mut headers = headers_of(&sample().0);
    headers.insert(name, value);
    headers
}

fn without(name: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (known, value) in sample().0.to_headers() {
        if known != name {
            headers.insert(known, value.as_str());
        }
    }
    headers
}

fn body(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

/// Message, expected class, and what it is.
fn hostile() -> Vec<(HeaderMap, Vec<u8>, &'static str, &'static str)> {
    let good = sample().1;
    let own = || headers_of(&sample().0);
    let many_headers = {
        let mut headers = own();
        for index in 0..4_000 {
            headers.insert(format!("x-{index}").as_str(), "y");
        }
        headers.insert("ce-type", "vigie.nothing.v1");
        headers
    };
    let large_header = {
        let mut headers = with("ce-type", "vigie.nothing.v1");
        headers.insert("x-large", "y".repeat(60_000).as_str());
        headers
    };
    vec![
        (HeaderMap::new(), body("hello"), "undecodable", "no event at all"),
        (HeaderMap::new(), Vec::new(), "undecodable", "nothing at all"),
        (own(), Vec::new(), "schema_invalid", "an empty body"),
        (own(), body("{"), "schema_invalid", "half a body"),
        (
            own(),
            vec![0xff, 0xfe, 0x00],
            "schema_invalid",
            "a body that is no text",
        ),
        (own(), body("[]"), "schema_invalid", "a body of another shape"),
        (
            own(),
            body(r#"{"as_of":"yesterday","requested_by":"x","reason":""}"#),
            "schema_invalid",
            "a broken instant",
        ),
        (
            own(),
            body(r#"{"as_of":"2026-01-01T00:00:00Z","requested_by":"x"}"#),
            "schema_invalid",
            "a field too few",
        ),
        (
            own(),
            body(
                r#"{"as_of":"2026-01-01T00:00:00Z","as_of":"2027-01-01T00:00:00Z","requested_by":"x","reason":""}"#,
            ),
            "schema_invalid",
            "a field said twice",
        ),
        (
            own(),
            body(r#"{"as_of":"\u0000","requested_by":"x","reason":""}"#),
            "schema_invalid",
            "a zero character",
        ),
        (
            own(),
            body(r#"{"as_of":1e999,"requested_by":"x","reason":""}"#),
            "schema_invalid",
            "a number beyond all",
        ),
        (
            own(),
            body(r#"{"as_of":NaN,"requested_by":"x","reason":""}"#),
            "schema_invalid",
            "no number",
        ),
        (
            own(),
            vec![b' '; DATA_BYTES_MAX + 1],
            "too_large",
            "one byte too much",
        ),
        (own(), body(&"[".repeat(10_000)), "undecodable", "a deep nest"),
        (
            own(),
            body(&format!("{}{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000))),
            "undecodable",
            "deep objects",
        ),
        (
            with("ce-type", "vigie.drift.check.requested.v2"),
            good.clone(),
            "unsupported_major",
            "a later major",
        ),
        (
            with("ce-type", "vigie.drift.invented.v1"),
            good.clone(),
            "unsupported_major",
            "an unknown type",
        ),
        (
            with("ce-type", "'; drop table effect; --"),
            good.clone(),
            "unsupported_major",
            "a type with a trick",
        ),
        (
            with("ce-type", "%00"),
            good.clone(),
            "unsupported_major",
            "a type of zero",
        ),
        (
            with("ce-source", "/vigie/notifier"),
            good.clone(),
            "unauthorized_source",
            "a service that may not say it",
        ),
        (
            with("ce-type", "vigie.retrain.asked.v1"),
            body(r#"{"as_of":"2026-01-01T00:00:00Z","requested_by":"x","reason":"","force":false}"#),
            "unauthorized_source",
            "an event on the subject of another",
        ),
        (
            with("ce-source", "/vigie/nobody"),
            good.clone(),
            "unauthorized_source",
            "somebody who is nobody",
        ),
        (
            with("ce-specversion", "2.0"),
            good.clone(),
            "undecodable",
            "another CloudEvents",
        ),
        (
            with("ce-id", "not-a-uuid"),
            good.clone(),
            "undecodable",
            "an id that is none",
        ),
        (
            with("ce-id", "%00%0d%0a"),
            good.clone(),
            "undecodable",
            "an id of control characters",
        ),
        (
            with("ce-time", "noon"),
            good.clone(),
            "undecodable",
            "a time that is none",
        ),
        (
            with("ce-subject", "%0d%0aBcc:%20everyone"),
            good.clone(),
            "undecodable",
            "a model with a line break",
        ),
        (
            with("ce-subject", "%C0%A0"),
            good.clone(),
            "undecodable",
            "an overlong encoding",
        ),
        (
            with("ce-subject", ""),
            good.clone(),
            "undecodable",
            "a model without a name",
        ),
        (
            with("ce-source", ""),
            good.clone(),
            "undecodable",
            "a source without a name",
        ),
        (without("ce-subject"), good.clone(), "undecodable", "no model"),
        (without("ce-id"), good.clone(), "undecodable", "no id"),
        (without("ce-type"), good.clone(), "undecodable", "no type"),
        (
            with("content-type", "application/cloudevents+json"),
            good.clone(),
            "undecodable",
            "half structured",
        ),
        (
            with("content-type", "application/cloudevents+json"),
            body(r#"{"specversion":"1.0","id":7,"type":"vigie.drift.check.requested.v1"}"#),
            "undecodable",
            "structured with a number for a name",
        ),
        (
            many_headers,
            good.clone(),
            "unsupported_major",
            "four thousand headers",
        ),
        (
            large_header,
            good,
            "unsupported_major",
            "a header as large as the broker takes",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hostile_message_is_parked_under_its_class_and_the_flow_goes_on() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let consumer = Running::consumer(&toy, obliging());
    let relay = Running::relay(&toy);
    for (index, (headers, body, class, what)) in hostile().into_iter().enumerate() {
        send(&toy.bus, headers, body.clone()).await;
        let letter = eventually(&format!("{what} is parked"), async || {
            let mut letters = dead_letters(&toy.pool).await;
            (letters.len() > index).then(|| letters.pop()).flatten()
        })
        .await;
        assert_eq!(letter.reason_class, class, "{what}: {}", letter.reason);
        assert_eq!(
            letter.data,
            body[..body.len().min(DATA_BYTES_MAX)],
            "{what} is kept"
        );
        assert!(
            !letter.reason.is_empty() && letter.reason.len() < 2_000,
            "{what}: {}",
            letter.reason
        );
    }
    let good = send_sample(&toy.bus).await;
    handled(&toy.pool, good).await;
    let parked = hostile().len();
    assert_eq!(
        count(&toy.pool, "select count(*) from effect").await,
        1,
        "nothing but the good event had effects"
    );
    // Each is announced, or its row says why it cannot be; none is tried for ever.
    eventually("all are announced", async || {
        (count(
            &toy.pool,
            "select count(*) from outbox where published_at is null",
        )
        .await
            == 0)
            .then_some(())
    })
    .await;
    assert_eq!(messages(&toy.bus, STREAM_DEAD).await.len(), parked);
    relay.stop().await;
    consumer.stop().await;
}

/// Publishes bytes that no client library would write, and returns when the broker has them.
async fn send_raw(nats_url: &str, header: &[u8], body: &[u8]) {
    let url = url::Url::parse(nats_url).unwrap();
    let address = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let mut stream = BufStream::new(TcpStream::connect(address).await.unwrap());
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    assert!(line.starts_with("INFO "), "{line}");
    let connect = serde_json::json!({
        "verbose": false, "pedantic": false, "headers": true, "no_responders": true,
        "user": url.username(), "pass": url.password(),
    });
    stream
        .write_all(format!("CONNECT {connect}\r\nSUB answer 1\r\n").as_bytes())
        .await
        .unwrap();
    let size = format!(
        "HPUB drift.check.requested answer {} {}\r\n",
        header.len(),
        header.len() + body.len()
    );
    for part in [size.as_bytes(), header, body, b"\r\nPING\r\n"] {
        stream.write_all(part).await.unwrap();
    }
    stream.flush().await.unwrap();
    // The publish ack.
    loop {
        line.clear();
        assert!(
            stream.read_line(&mut line).await.unwrap() > 0,
            "the broker hung up"
        );
        assert!(!line.starts_with("-ERR"), "{line}");
        if line.contains("\"stream\":\"VIGIE\"") {
            assert!(!line.contains("error"), "{line}");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_no_client_can_read_are_parked_and_the_flow_goes_on() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    // The consumer's client loses its connection over such messages; ours does not read them.
    let witness = bench.replica().await;
    let consumer = Running::consumer(&toy, obliging());
    let before = send_sample(&witness.bus).await;
    handled(&toy.pool, before).await;
    let headers: [&[u8]; 9] = [
        b"NATS/1.0\r\nce-id: \xff\xfe\r\n\r\n",
        b"NATS/1.0\r\nno colon here\r\n\r\n",
        b"NATS/1.0\r\nname with spaces: x\r\n\r\n",
        // A line break inside of a value: the client library does not expect it of a broker.
        b"NATS/1.0\r\nx: a\rb\r\n\r\n",
        b"NATS/1.0\r\nce-subject: a\r\rb\r\n\r\n",
        "NATS/1.0\r\nn\u{e4}me: x\r\n\r\n".as_bytes(),
        // Words that only the broker says: nothing more to come, a heartbeat, nobody is there.
        b"NATS/1.0 404 No Messages\r\n\r\n",
        b"NATS/1.0 100 Idle Heartbeat\r\n\r\n",
        b"NATS/1.0 503\r\nNats-Last-Consumer: 7\r\n\r\n",
    ];
    for (index, header) in headers.into_iter().enumerate() {
        let body = format!("[{index}]").into_bytes();
        send_raw(&bench.env.nats_url, header, &body).await;
        let good = send_sample(&witness.bus).await;
        handled(&toy.pool, good).await;
        let letter = eventually(
            &format!("{:?} is parked", header.escape_ascii().to_string()),
            async || {
                let mut letters = dead_letters(&toy.pool).await;
                (letters.len() > index).then(|| letters.pop()).flatten()
            },
        )
        .await;
        assert_eq!(letter.reason_class, "undecodable");
        assert_eq!(letter.data, body);
    }
    // Nothing is left that would come again and again.
    let stream = witness
        .bus
        .jetstream()
        .get_stream(chassis::bus::STREAM)
        .await
        .unwrap();
    eventually("everything is answered", async || {
        let info = stream.consumer_info("toy").await.unwrap();
        (info.num_ack_pending == 0 && info.num_pending == 0).then_some(())
    })
    .await;
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_are_parked_once() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let consumer = Running::consumer(&toy, obliging());
    for _ in 0..3 {
        send(&toy.bus, HeaderMap::new(), "rubbish").await;
    }
    let good = send_sample(&toy.bus).await;
    handled(&toy.pool, good).await;
    eventually("the rubbish is parked", async || {
        (!dead_letters(&toy.pool).await.is_empty()).then_some(())
    })
    .await;
    consumer.stop().await;
    assert_eq!(dead_letters(&toy.pool).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_but_legal_events_are_handled() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let consumer = Running::consumer(&toy, obliging());
    for name in [
        "<img src=x onerror=alert(1)>",
        "'; drop table effect; --",
        "<!channel>",
        "نموذج",
        "100%",
    ] {
        let (mut attributes, body) = sample();
        attributes.model = name.parse().unwrap();
        send(&toy.bus, headers_of(&attributes), body).await;
        assert_eq!(handled(&toy.pool, attributes.id).await.len(), 1, "{name}");
    }
    // Unknown fields and headers are none of our business.
    let (attributes, _) = sample();
    let mut headers = headers_of(&attributes);
    headers.insert("x-unknown", "y");
    send(
        &toy.bus,
        headers,
        r#"{"as_of":"2026-01-01T00:00:00Z","requested_by":"x","reason":"","later":[1]}"#,
    )
    .await;
    handled(&toy.pool, attributes.id).await;
    // Structured mode.
    let (attributes, data) = sample();
    let document = serde_json::json!({
        "specversion": "1.0", "id": attributes.id, "source": "/vigie/vigie", "type": "vigie.drift.check.requested.v1",
        "time": "2026-01-01T00:00:00Z", "subject": "fraud-cards",
        "data": serde_json::from_slice::<serde_json::Value>(&data).unwrap(),
    });
    let mut headers = HeaderMap::new();
    headers.insert("Content-Type", "application/cloudevents+json; charset=utf-8");
    send(&toy.bus, headers, document.to_string()).await;
    handled(&toy.pool, attributes.id).await;
    consumer.stop().await;
    assert!(dead_letters(&toy.pool).await.is_empty());
    assert!(effects_of(&toy.pool, attributes.id).await.len() == 1);
}
