//! Settings: defaults that work, and every mistake named.

use std::collections::BTreeMap;

use chassis::Sources;
use trainer_bridge::TrainerBridge;

fn check(text: &str, environment: &[(&str, &str)]) -> Result<(), String> {
    let environment: BTreeMap<String, String> = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let sources = Sources {
        overrides: vec![("test".to_owned(), text.to_owned())],
        environment,
        ..Sources::default()
    };
    chassis::service::check::<TrainerBridge>(&sources).map_err(|problems| problems.to_string())
}

#[test]
fn the_defaults_work_and_the_documents_names_reach_their_settings() {
    assert_eq!(check("", &[]), Ok(()));
    let databricks = [
        ("DATABRICKS_HOST", "https://adb-1.2.azuredatabricks.net"),
        ("DATABRICKS_TOKEN", "secret"),
        ("DATABRICKS_TRAINING_JOB_ID", "12345"),
        ("MLFLOW_TRACKING_URI", "https://mlflow.example"),
    ];
    assert_eq!(
        check("[training]\nbackend = \"databricks\"\n", &databricks),
        Ok(())
    );
}

#[test]
fn every_mistake_is_named_at_once_with_its_setting() {
    let problems = check(
        "[training]\nbackend = \"databricks\"\nalgorithms = [\"magic\"]\nwindow = \"1m\"\nrows_min = 5000\nrows_max = 1000\n\
         [training.random_forest]\ntrees = 0\n\
         [databricks]\npoll_first = \"2m\"\npoll_longest = \"1m\"\ncluster_id = \"a\"\nnew_cluster = \"{}\"\n\
         [mlflow]\ntoken = \"a\"\nusername = \"b\"\n",
        &[],
    )
    .unwrap_err();
    for expected in [
        "training.algorithms",
        "training.window",
        "training.rows_max",
        "training.random_forest.trees",
        "databricks.host",
        "databricks.token",
        "databricks.job_id",
        "databricks.poll_longest",
        "databricks.new_cluster",
        "mlflow.token",
    ] {
        assert!(
            problems.contains(&format!("`{expected}`")),
            "{expected} is not in\n{problems}"
        );
    }
}

#[test]
fn a_host_with_a_path_is_refused_before_any_call_is_made() {
    let with_host = |host| {
        let environment = [
            ("DATABRICKS_HOST", host),
            ("DATABRICKS_TOKEN", "x"),
            ("DATABRICKS_TRAINING_JOB_ID", "1"),
        ];
        check("", &environment)
    };
    assert_eq!(with_host("https://adb-1.2.azuredatabricks.net/"), Ok(()));
    for host in [
        "https://adb-1.2.azuredatabricks.net/api/2.2",
        "https://adb-1.2.azuredatabricks.net/?o=42",
    ] {
        let problems = with_host(host).unwrap_err();
        assert!(
            problems.contains("databricks.host") && problems.contains("scheme and host only"),
            "{problems}"
        );
    }
}

#[test]
fn a_token_does_not_travel_in_the_clear() {
    let plain = [
        ("DATABRICKS_HOST", "http://adb.example"),
        ("DATABRICKS_TOKEN", "hunter2"),
        ("DATABRICKS_TRAINING_JOB_ID", "1"),
    ];
    let problems = check("", &plain).unwrap_err();
    assert!(
        problems.contains("databricks.host") && problems.contains("https"),
        "{problems}"
    );
    assert!(!problems.contains("hunter2"), "{problems}");
    let loopback = [
        ("DATABRICKS_HOST", "http://127.0.0.1:1"),
        ("DATABRICKS_TOKEN", "x"),
        ("DATABRICKS_TRAINING_JOB_ID", "1"),
    ];
    assert_eq!(check("", &loopback), Ok(()));
    // There is no leave for it, as there is for a network of one's own.
    let mlflow = [("MLFLOW_TRACKING_URI", "http://mlflow:5000")];
    let problems = check("", &mlflow).unwrap_err();
    assert!(problems.contains("`mlflow.insecure = true`"), "{problems}");
    assert_eq!(check("[mlflow]\ninsecure = true\n", &mlflow), Ok(()));
    check("[databricks]\ninsecure = true\n", &plain).unwrap_err();
}

#[test]
fn no_setting_leads_to_where_clouds_hand_out_credentials() {
    for address in [
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "[::ffff:169.254.169.254]",
        "[fe80::1]",
    ] {
        for (name, key) in [
            ("MLFLOW_TRACKING_URI", "mlflow.tracking_uri"),
            ("DATABRICKS_HOST", "databricks.host"),
        ] {
            let url = format!("https://{address}");
            let problems = check("", &[(name, url.as_str())]).unwrap_err();
            assert!(
                problems.contains(key) && problems.contains("link-local"),
                "{url}: {problems}"
            );
        }
    }
}
