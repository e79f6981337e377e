//! What the README shows works.

use chassis::Sources;

#[test]
fn the_settings_in_the_readme_are_fine() {
    let readme = include_str!("../../../README.md");
    let blocks: Vec<&str> = readme
        .split("```toml")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let sources = Sources {
            overrides: vec![("README.md".to_owned(), block.to_owned())],
            ..Sources::default()
        };
        assert_eq!(vigie::host::check_settings(&sources), Ok(()), "{block}");
    }
}
