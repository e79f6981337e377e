//! Calls to other people's servers go where the settings say, and nowhere else.
//!
//! Addresses come from settings only, never from an event. Redirects are not followed: they would carry a token elsewhere. And
//! the addresses under which clouds hand out credentials to whoever asks are not connected to, however they are written and
//! whatever a name resolves to: the address that is checked is the one that is connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::settings::Section;
use crate::transport;

/// Longest wait for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Reports setting `name` when its URL leads to a forbidden address, or out of this machine in plain text without leave.
pub fn check_http(section: &Section<'_>, name: &str, url: Option<&Url>) {
    check_address(section, name, url);
    let exposed = url.is_some_and(transport::is_exposed_http);
    transport::expect_protected(section, name, exposed, "an `https://` URL");
}

/// Reports setting `name` when its URL leads to a forbidden address.
pub fn check_address(section: &Section<'_>, name: &str, url: Option<&Url>) {
    if url.is_some_and(is_forbidden_url) {
        section.problem(
            name,
            "the address of a server: link-local addresses, where clouds hand out credentials, and addresses that are no \
             single machine's are never called",
        );
    }
}

/// Says at the start that a URL of HTTP leads out of this machine in plain text.
pub fn warn_http(setting: &str, url: &Url) {
    let shown = crate::settings::mask_userinfo(url.as_str());
    transport::warn(setting, &shown, transport::is_exposed_http(url));
}

/// The address that stands in a URL itself. The forms `0xa9fea9fe`, `2852039166` and `0251.254.169.254` are read as browsers do.
fn literal_of(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(four) => Some(IpAddr::V4(four)),
        Host::Ipv6(six) => Some(IpAddr::V6(six)),
        Host::Domain(name) => name.parse().ok(),
    }
}

/// Whether a URL names a forbidden address itself; where a name leads is found out when it is called.
pub(crate) fn is_forbidden_url(url: &Url) -> bool {
    literal_of(url).is_some_and(is_forbidden)
}

/// Whether no setting and no name may lead there.
pub fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => is_forbidden_four(four),
        IpAddr::V6(six) => {
            let segments = six.segments();
            six.is_unspecified()
                || six.is_multicast()
                || (segments[0] & 0xffc0) == 0xfe80
                // Where one cloud answers by IPv6.
                || six == Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)
                || four_within(six).is_some_and(is_forbidden_four)
        }
    }
}

fn is_forbidden_four(address: Ipv4Addr) -> bool {
    address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.octets()[0] == 0
        // Two clouds answer outside of the link-local range.
        || address == Ipv4Addr::new(100, 100, 100, 200)
        || address == Ipv4Addr::new(192, 0, 0, 192)
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, NAT64 or 6to4.
fn four_within(six: Ipv6Addr) -> Option<Ipv4Addr> {
    const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    const NAT64: [u8; 12] = [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];
    let octets = six.octets();
    let at = |first: usize| {
        Ipv4Addr::new(
            octets[first],
            octets[first + 1],
            octets[first + 2],
            octets[first + 3],
        )
    };
    let compatible = octets.starts_with(&[0; 12]) && !six.is_loopback();
    if compatible || octets.starts_with(&MAPPED) || octets.starts_with(&NAT64) {
        Some(at(12))
    } else if octets.starts_with(&[0x20, 0x02]) {
        Some(at(2))
    } else {
        None
    }
}

/// A client that follows no redirect, connects to no forbidden address, and waits at most `timeout` for an answer.
pub fn client(timeout: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout.min(CONNECT_WITHIN))
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("vigie/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(resolver())
}

/// Like [`client`], for the exporter of traces, which blocks.
pub(crate) fn blocking_client(timeout: Duration) -> reqwest::Result<reqwest::blocking::Client> {
    let build = || {
        reqwest::blocking::Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(resolver())
            .build()
    };
    // It brings a runtime of its own, which may not be built inside of another one.
    std::thread::scope(|scope| match scope.spawn(build).join() {
        Ok(client) => client,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn resolver() -> Arc<Checked> {
    Arc::new(Checked {
        of_a_test: Vec::new(),
    })
}

/// Resolves names and refuses those that lead to a forbidden address.
#[derive(Debug)]
struct Checked {
    /// What every name resolves to, in a test.
    of_a_test: Vec<SocketAddr>,
}

/// A name that leads where nothing may.
#[derive(Debug, thiserror::Error)]
#[error("`{name}` resolves to {address}, which is never called: link-local, or no single machine's")]
struct Forbidden {
    name: String,
    address: IpAddr,
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let of_a_test = self.of_a_test.clone();
        Box::pin(async move {
            let found = if of_a_test.is_empty() {
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect()
            } else {
                of_a_test
            };
            // One such address condemns the name: the others may be there to pass the check.
            if let Some(forbidden) = found.iter().find(|found| is_forbidden(found.ip())) {
                return Err(Forbidden {
                    name: name.as_str().to_owned(),
                    address: forbidden.ip(),
                }
                .into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn addresses_that_hand_out_credentials_are_forbidden_in_every_spelling() {
        for url in [
            "http://169.254.169.254/latest/meta-data",
            "http://169.254.0.1",
            "http://2852039166",
            "http://0xa9fea9fe",
            "http://0xa9.0xfe.0xa9.0xfe",
            "http://0251.0376.0251.0376",
            "http://169.254.43518",
            "http://169.254.169.254.",
            "http://[::ffff:169.254.169.254]",
            "http://[::ffff:a9fe:a9fe]",
            "http://[::169.254.169.254]",
            "http://[64:ff9b::169.254.169.254]",
            "http://[2002:a9fe:a9fe::1]",
            "http://[fe80::1]",
            "http://[febf::1]",
            "http://[fd00:ec2::254]",
            "http://100.100.100.200",
            "http://192.0.0.192",
            "http://0.0.0.0",
            "http://[::]",
            "http://255.255.255.255",
            "http://224.0.0.1",
            "http://[ff02::1]",
        ] {
            let parsed = Url::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            let literal = literal_of(&parsed).unwrap_or_else(|| panic!("{url} is an address"));
            assert!(is_forbidden(literal), "{url}");
        }
        for url in [
            "http://127.0.0.1",
            "http://0x7f.1",
            "http://[::1]",
            "http://10.1.2.3",
            "http://192.168.1.1",
            "http://172.16.0.1",
            "http://[fd12::1]",
            "http://[::ffff:10.0.0.1]",
            "https://93.184.216.34",
            "https://[2606:2800::1]",
        ] {
            let literal = literal_of(&Url::parse(url).unwrap());
            assert!(!literal.is_some_and(is_forbidden), "{url}");
        }
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        crate::install_crypto();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let asked = tokio::spawn(async move {
            let client = client(Duration::from_secs(30)).no_proxy().build().unwrap();
            client.get(&url).send().await
        });
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let asked_for = connection.read(&mut request).await.unwrap();
        assert!(asked_for > 0, "it asked");
        connection
            .write_all(b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest/\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
        let answer = asked.await.unwrap().unwrap();
        assert_eq!(answer.status(), 302, "the answer is handed over as it is");
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_a_forbidden_address_is_not_connected_to() {
        crate::install_crypto();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let through = |addresses: Vec<SocketAddr>| {
            let resolver = Checked { of_a_test: addresses };
            client(Duration::from_secs(30))
                .no_proxy()
                .dns_resolver(Arc::new(resolver))
                .build()
                .unwrap()
        };
        let url = format!("http://rebound.example:{}/", good.port());
        for bad in ["169.254.169.254:0", "[fe80::1]:0", "[::ffff:169.254.169.254]:0"] {
            let bad: SocketAddr = bad.parse().unwrap();
            let error = through(vec![good, bad]).get(&url).send().await.unwrap_err();
            let told = format!("{:#}", anyhow::Error::from(error));
            assert!(told.contains("`rebound.example` resolves to"), "{told}");
        }
        // The same client does connect where it may.
        let answered = tokio::spawn({
            let client = through(vec![good]);
            async move { client.get(&url).send().await }
        });
        let (connection, _) = listener.accept().await.unwrap();
        drop(connection);
        answered.await.unwrap().unwrap_err();
    }
}
