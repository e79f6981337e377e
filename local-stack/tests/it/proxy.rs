//! Each way in which a line can be bad, seen from the far end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use local_stack::proxy::{Line, Proxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Answers each byte with its successor, and counts them.
async fn server() -> (std::net::SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                while let Ok(byte) = stream.read_u8().await {
                    count.fetch_add(1, Ordering::SeqCst);
                    if stream.write_u8(byte.wrapping_add(1)).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, seen)
}

async fn ask(stream: &mut TcpStream, byte: u8) -> std::io::Result<u8> {
    stream.write_u8(byte).await?;
    stream.read_u8().await
}

async fn is_silent(stream: &mut TcpStream) -> bool {
    tokio::time::timeout(Duration::from_millis(200), stream.read_u8())
        .await
        .is_err()
}

async fn seen(count: &AtomicU64, expected: u64) {
    while count.load(Ordering::SeqCst) < expected {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_good_line_passes_and_a_late_or_narrow_one_passes_too() {
    let (address, _) = server().await;
    let proxy = Proxy::to(address).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    for line in [
        Line::Pass,
        Line::Delay(Duration::from_millis(5)),
        Line::Throttle(1_000),
    ] {
        proxy.set(line);
        assert_eq!(ask(&mut stream, 7).await.unwrap(), 8, "{line:?}");
    }
    assert_eq!(proxy.opened(), 1);
}

#[tokio::test]
async fn nothing_passes_a_silent_line_until_it_is_good_again() {
    let (address, count) = server().await;
    let proxy = Proxy::to(address).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut stream, 1).await.unwrap(), 2);
    proxy.set(Line::Silent);
    stream.write_u8(3).await.unwrap();
    assert!(is_silent(&mut stream).await);
    assert_eq!(count.load(Ordering::SeqCst), 1);
    proxy.set(Line::Pass);
    assert_eq!(stream.read_u8().await.unwrap(), 4);
}

#[tokio::test]
async fn lost_answers_were_answers_to_what_was_done() {
    let (address, count) = server().await;
    let proxy = Proxy::to(address).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    proxy.set(Line::AnswersLost);
    stream.write_u8(5).await.unwrap();
    seen(&count, 1).await;
    assert!(is_silent(&mut stream).await);
    proxy.set(Line::Pass);
    stream.write_u8(6).await.unwrap();
    seen(&count, 2).await;
    assert!(
        is_silent(&mut stream).await,
        "a stream with a hole is never read on"
    );
    let mut fresh = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut fresh, 7).await.unwrap(), 8);
}

#[tokio::test]
async fn an_answer_can_end_in_its_middle() {
    let (address, _) = server().await;
    let proxy = Proxy::to(address).await.unwrap();
    proxy.set(Line::Truncate(2));
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    stream.write_all(&[1, 2, 3, 4]).await.unwrap();
    let mut answer = Vec::new();
    let _cut_short = stream.read_to_end(&mut answer).await;
    assert_eq!(answer, [2, 3]);
}

#[tokio::test]
async fn a_cut_line_resets_what_is_open_and_takes_nothing_new() {
    let (address, _) = server().await;
    let proxy = Proxy::to(address).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut stream, 1).await.unwrap(), 2);
    proxy.set(Line::Cut);
    assert!(stream.read_u8().await.is_err());
    // The system takes the connection for the listener; nobody is there.
    if let Ok(mut refused) = TcpStream::connect(proxy.address()).await {
        assert!(ask(&mut refused, 1).await.is_err());
    }
    proxy.set(Line::Pass);
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut stream, 1).await.unwrap(), 2);
    proxy.reset();
    assert!(stream.read_u8().await.is_err());
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut stream, 1).await.unwrap(), 2);
}

#[tokio::test]
async fn a_url_can_lead_over_the_line() {
    let (address, _) = server().await;
    let proxy = Proxy::to(address).await.unwrap();
    let url = format!("postgres://vigie@{address}/vigie?x=1");
    let led = proxy.instead_of(&url).unwrap();
    assert_eq!(led, format!("postgres://vigie@{}/vigie?x=1", proxy.address()));
    assert!(proxy.instead_of("nats://broker:4222").is_err());
}

#[tokio::test]
async fn a_line_that_is_broken_for_a_time_is_good_again_by_itself() {
    let (address, _) = server().await;
    let proxy = Proxy::to(address).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut stream, 1).await.unwrap(), 2);
    proxy.set_for(Line::Silent, Duration::from_secs(2));
    stream.write_u8(3).await.unwrap();
    assert!(is_silent(&mut stream).await);
    assert_eq!(stream.read_u8().await.unwrap(), 4);
}
