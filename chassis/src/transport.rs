//! Nothing leaves this machine in plain text unless somebody has written that it may.
//!
//! Whoever reads an address from the settings asks [`expect_protected`]; whoever then connects calls [`warn`], so that an
//! exception is told at every start.

use std::net::IpAddr;

use crate::settings::Section;

/// Whether the host is this machine: `localhost`, `127.0.0.0/8`, `::1`, or a socket in the file system.
pub fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mapped = |address: IpAddr| match address {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| mapped(address).is_loopback())
}

/// Whether what is said to this host can be read or changed on its way.
pub fn is_exposed(host: Option<&str>, protected: bool) -> bool {
    !protected && !host.is_some_and(is_loopback)
}

/// Whether a URL of HTTP leads away from this machine in plain text.
pub fn is_exposed_http(url: &url::Url) -> bool {
    is_exposed(url.host_str(), url.scheme() == "https")
}

/// Reports setting `name` when what it leads to is exposed and `insecure` of its section does not allow it. `instead` says
/// what would be right, e.g. "a `tls://` URL".
pub fn expect_protected(section: &Section<'_>, name: &str, exposed: bool, instead: &str) {
    // Looked at in any case: a value that is no flag is a mistake of its own.
    let allowed = section.flag("insecure");
    if exposed && !allowed {
        let expected = format!(
            "{instead}: plain text would leave this machine; `{} = true` allows it, for a network that nobody else can listen \
             on",
            section.key("insecure")
        );
        section.problem(name, expected);
    }
}

/// Says at the start that an exception is in force.
pub fn warn(setting: &str, shown: &str, exposed: bool) {
    if exposed {
        tracing::warn!(
            "`{setting}` leads to {shown} without a protection that can be trusted: whoever is in between can read and change \
             what is said (`insecure = true` allows it)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_this_machine() {
        for host in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "[::1]",
            "::ffff:127.0.0.1",
            "localhost",
            "LOCALHOST",
            "/run/postgresql",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "nats",
            "10.0.0.1",
            "0.0.0.0",
            "::",
            "127.0.0.1.example.org",
            "localhost.example.org",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_loopback(host), "{host}");
            assert!(
                is_exposed(Some(host), false) && !is_exposed(Some(host), true),
                "{host}"
            );
        }
        assert!(is_exposed(None, false));
    }
}
