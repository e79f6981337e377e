//! What may not come in through the back door, as a dependency of a dependency.

use super::Violation;
use super::imports::BANNED;

/// What is wrong with the packages of `Cargo.lock`.
pub(super) fn violations(lock: &[String]) -> Vec<Violation> {
    let banned = lock
        .iter()
        .filter(|name| BANNED.contains(&name.as_str()))
        .map(|name| {
            format!("`{name}` is banned: TLS is rustls with ring; `cargo tree -i {name}` shows who brings it")
        });
    // Two of these would be two crypto providers or two connections' worth of types.
    let twice = ["rustls", "ring", "reqwest", "opentelemetry", "sqlx"]
        .iter()
        .filter_map(|name| {
            let count = lock.iter().filter(|known| known == name).count();
            (count > 1).then(|| {
                format!(
                    "{count} versions of `{name}`; there may be one, `cargo tree -d` shows who brings them"
                )
            })
        });
    banned
        .chain(twice)
        .map(|rule| Violation {
            file: "Cargo.lock".to_owned(),
            rule,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::violations;

    #[test]
    fn banned_and_doubled_packages_are_found() {
        let names = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(violations(&names("ring rustls sha2 sha2")), []);
        let found = violations(&names("aws-lc-rs ring rustls rustls"));
        let rules: Vec<&str> = found.iter().map(|violation| violation.rule.as_str()).collect();
        assert!(rules[0].starts_with("`aws-lc-rs` is banned"), "{rules:?}");
        assert!(rules[1].starts_with("2 versions of `rustls`"), "{rules:?}");
        assert_eq!(rules.len(), 2);
    }
}
