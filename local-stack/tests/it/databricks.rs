//! The Databricks stub keeps the contract of the Jobs API.

use local_stack::peers::databricks::{Call, Databricks, Dialect, Fault, Outcome, RunPlan, RunState};
use serde_json::{Value, json};

use crate::support::http_client;

struct Client<'a>(&'a Databricks);

impl Client<'_> {
    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}/api/2.2/jobs/{path}", self.0.url());
        let response = http_client()
            .post(url)
            .bearer_auth(self.0.token())
            .json(body)
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn get(&self, path: &str, run_id: i64) -> (u16, Value) {
        let url = format!("{}/api/2.2/jobs/{path}?run_id={run_id}", self.0.url());
        let response = http_client()
            .get(url)
            .bearer_auth(self.0.token())
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn submit(&self, token: &str) -> i64 {
        let (status, body) = self.post("runs/submit", &submit_body(token)).await;
        assert_eq!(status, 200, "{body}");
        body["run_id"].as_i64().unwrap()
    }

    /// `state.life_cycle_state`, `state.result_state`, `status.state`, `status.termination_details.type`.
    async fn poll(&self, run_id: i64) -> [Value; 4] {
        let (status, run) = self.get("runs/get", run_id).await;
        assert_eq!(status, 200, "{run}");
        [
            run["state"]["life_cycle_state"].clone(),
            run["state"]["result_state"].clone(),
            run["status"]["state"].clone(),
            run["status"]["termination_details"]["type"].clone(),
        ]
    }
}

fn submit_body(token: &str) -> Value {
    json!({
        "run_name": "train fraud-cards",
        "idempotency_token": token,
        "tasks": [{ "task_key": "train", "notebook_task": { "notebook_path": "/train", "base_parameters": { "decision": "d1" } } }],
    })
}

#[tokio::test]
async fn a_run_goes_through_its_states_and_hands_back_its_output() {
    let databricks = Databricks::start().await.unwrap();
    let client = Client(&databricks);
    databricks.plan([RunPlan::succeeds("mlflow run 4711")]);
    let run_id = client.submit("token").await;
    assert!(run_id > i64::from(u32::MAX), "ids do not fit into 32 bits");
    assert_eq!(
        client.poll(run_id).await,
        [json!("PENDING"), json!(null), json!("PENDING"), json!(null)]
    );
    assert_eq!(
        client.poll(run_id).await,
        [json!("RUNNING"), json!(null), json!("RUNNING"), json!(null)]
    );
    let ended = [
        json!("TERMINATED"),
        json!("SUCCESS"),
        json!("TERMINATED"),
        json!("SUCCESS"),
    ];
    assert_eq!(client.poll(run_id).await, ended);
    assert_eq!(client.poll(run_id).await, ended, "it stays");

    let (_, run) = client.get("runs/get", run_id).await;
    let task_run_id = run["tasks"][0]["run_id"].as_i64().unwrap();
    assert_eq!(run["tasks"][0]["task_key"], "train");
    assert_eq!(run["tasks"][0]["state"]["result_state"], "SUCCESS");
    let (status, output) = client.get("runs/get-output", task_run_id).await;
    assert_eq!(
        (status, &output["notebook_output"]["result"]),
        (200, &json!("mlflow run 4711"))
    );
    let (status, refusal) = client.get("runs/get-output", run_id).await;
    assert_eq!(
        (status, &refusal["error_code"]),
        (400, &json!("INVALID_PARAMETER_VALUE"))
    );

    let record = &databricks.runs()[0];
    assert_eq!(
        (record.run_id, record.task_run_id, record.polls),
        (run_id, task_run_id, 5)
    );
    assert_eq!(
        record.request["tasks"][0]["notebook_task"]["base_parameters"]["decision"],
        "d1"
    );
}

#[tokio::test]
async fn a_token_makes_one_run() {
    let databricks = Databricks::start().await.unwrap();
    let client = Client(&databricks);
    let first = client.submit("one").await;
    assert_eq!(client.submit("one").await, first);
    assert_ne!(client.submit("two").await, first);
    // Without a token each call makes a run.
    assert_ne!(client.submit("").await, client.submit("").await);
    assert_eq!(databricks.runs().len(), 4);

    assert_eq!(
        client.post("runs/submit", &submit_body(&"x".repeat(64))).await.0,
        200
    );
    let (status, refusal) = client.post("runs/submit", &submit_body(&"x".repeat(65))).await;
    assert_eq!(
        (status, &refusal["error_code"]),
        (400, &json!("INVALID_PARAMETER_VALUE"))
    );

    databricks.delete_run(first);
    let (status, refusal) = client.post("runs/submit", &submit_body("one")).await;
    assert!(
        status == 400 && refusal["message"].as_str().unwrap().contains("deleted"),
        "{refusal}"
    );
    let (status, refusal) = client.get("runs/get", first).await;
    assert_eq!(
        (status, &refusal["error_code"]),
        (400, &json!("INVALID_PARAMETER_VALUE"))
    );
    assert_eq!(refusal["message"], format!("Run {first} does not exist."));
}

#[tokio::test]
async fn jobs_run_when_they_are_there() {
    let databricks = Databricks::start().await.unwrap();
    let client = Client(&databricks);
    let body = json!({ "job_id": 11, "idempotency_token": "one", "job_parameters": { "decision": "d1" } });
    let (status, refusal) = client.post("run-now", &body).await;
    assert_eq!(
        (status, refusal["message"].as_str().unwrap()),
        (400, "Job 11 does not exist.")
    );
    databricks.add_job(11);
    let (_, first) = client.post("run-now", &body).await;
    assert_eq!(first["run_id"], first["number_in_job"]);
    assert_eq!(client.post("run-now", &body).await.1, first);
    let (_, run) = client.get("runs/get", first["run_id"].as_i64().unwrap()).await;
    assert_eq!(run["job_id"], 11);
    assert_eq!(
        run["job_parameters"],
        json!([{ "name": "decision", "value": "d1" }])
    );
    assert_eq!(databricks.runs().len(), 1);
}

#[tokio::test]
async fn ends_are_told_in_both_forms_or_in_one() {
    let databricks = Databricks::start().await.unwrap();
    let client = Client(&databricks);
    let failure = Outcome::new("FAILED", "CLOUD_FAILURE", "CLOUD_FAILURE", "spot instance lost");
    let null = Value::Null;
    let cases = [
        (
            RunPlan::stays(RunState::Skipped),
            ["SKIPPED", "", "TERMINATED", "CLIENT_ERROR"],
        ),
        (
            RunPlan::stays(RunState::InternalError("lost".into())),
            ["INTERNAL_ERROR", "", "TERMINATED", "INTERNAL_ERROR"],
        ),
        (
            RunPlan::stays(RunState::WaitingForRetry),
            ["WAITING_FOR_RETRY", "", "WAITING", ""],
        ),
        (
            RunPlan::stays(RunState::Unheard("PONDERING".into())),
            ["PONDERING", "", "PONDERING", ""],
        ),
        (
            RunPlan::stays(RunState::Terminated(failure.clone())).told_in(Dialect::OldOnly),
            ["TERMINATED", "FAILED", "", ""],
        ),
        (
            RunPlan::stays(RunState::Terminated(failure.clone())).told_in(Dialect::NewOnly),
            ["", "", "TERMINATED", "CLOUD_FAILURE"],
        ),
    ];
    for (plan, expected) in cases {
        databricks.plan([plan.clone()]);
        let run_id = client.submit("").await;
        let expected = expected.map(|word| {
            if word.is_empty() {
                null.clone()
            } else {
                json!(word)
            }
        });
        assert_eq!(client.poll(run_id).await, expected, "{plan:?}");
    }

    databricks.plan([RunPlan::fails(failure)]);
    let run_id = client.submit("").await;
    let task_run_id = databricks.runs().last().unwrap().task_run_id;
    let (_, output) = client.get("runs/get-output", task_run_id).await;
    assert_eq!(
        (&output["error"], &output["notebook_output"]),
        (&json!("spot instance lost"), &null)
    );

    databricks.set_state(run_id, RunState::Running).unwrap();
    for _ in 0..5 {
        assert_eq!(
            client.poll(run_id).await[0],
            json!("RUNNING"),
            "until the test says otherwise"
        );
    }
    assert!(databricks.set_state(1, RunState::Running).is_err());
}

#[tokio::test]
async fn a_cancel_is_asynchronous_and_changes_no_finished_run() {
    let databricks = Databricks::start().await.unwrap();
    let client = Client(&databricks);
    databricks.plan([RunPlan::stays(RunState::Running)]);
    let run_id = client.submit("").await;
    client.poll(run_id).await;
    assert_eq!(
        client.post("runs/cancel", &json!({ "run_id": run_id })).await,
        (200, json!({}))
    );
    assert_eq!(client.poll(run_id).await[0], json!("TERMINATING"));
    assert_eq!(client.poll(run_id).await[1], json!("CANCELED"));
    assert!(databricks.runs()[0].cancelled);

    databricks.plan([RunPlan::stays(RunState::Terminated(Outcome::success()))]);
    let run_id = client.submit("").await;
    client.poll(run_id).await;
    assert_eq!(
        client.post("runs/cancel", &json!({ "run_id": run_id })).await.0,
        200
    );
    assert_eq!(client.poll(run_id).await[1], json!("SUCCESS"));
    assert!(!databricks.runs()[1].cancelled);
    assert_eq!(client.post("runs/cancel", &json!({ "run_id": 5 })).await.0, 400);
}

#[tokio::test]
async fn faults_come_in_order_and_say_whether_the_call_was_executed() {
    let databricks = Databricks::start().await.unwrap();
    let client = Client(&databricks);
    databricks.fail(
        Call::Submit,
        [
            Fault::TooManyRequests {
                retry_after: Some("3".into()),
            },
            Fault::ServerError,
            Fault::Unavailable,
            Fault::Instead {
                status: 502,
                body: "<html>bad gateway</html>".into(),
            },
            Fault::RequestLost,
            Fault::AnswerLost,
            Fault::None,
            Fault::ServerError,
        ],
    );
    let url = format!("{}/api/2.2/jobs/runs/submit", databricks.url());
    let send = || {
        http_client()
            .post(&url)
            .bearer_auth(databricks.token())
            .json(&submit_body("one"))
            .send()
    };
    let throttled = send().await.unwrap();
    assert_eq!(
        (
            throttled.status().as_u16(),
            throttled.headers()["retry-after"].to_str().unwrap()
        ),
        (429, "3")
    );
    assert_eq!(
        throttled.json::<Value>().await.unwrap()["error_code"],
        "REQUEST_LIMIT_EXCEEDED"
    );
    assert_eq!(send().await.unwrap().status().as_u16(), 500);
    assert_eq!(send().await.unwrap().status().as_u16(), 503);
    assert_eq!(
        send().await.unwrap().text().await.unwrap(),
        "<html>bad gateway</html>"
    );
    assert!(send().await.is_err(), "the request is lost");
    assert_eq!(databricks.runs(), []);
    assert!(send().await.is_err(), "the answer is lost");
    let run_id = databricks.runs()[0].run_id;
    assert_eq!(
        send().await.unwrap().json::<Value>().await.unwrap()["run_id"],
        run_id,
        "the token finds it again"
    );
    // Only this call fails.
    assert_eq!(client.get("runs/get", run_id).await.0, 200);
    assert_eq!(send().await.unwrap().status().as_u16(), 500);

    let statuses: Vec<Option<u16>> = databricks
        .requests()
        .iter()
        .map(|request| request.status)
        .collect();
    let expected = [429, 500, 503, 502, 0, 200, 200, 200, 500].map(|status| Some(status).filter(|s| *s != 0));
    assert_eq!(statuses, expected);
    assert_eq!(
        (databricks.calls(Call::Submit), databricks.calls(Call::Get)),
        (8, 1)
    );
    assert_eq!(databricks.runs().len(), 1);
}

#[tokio::test]
async fn nobody_gets_in_without_the_token() {
    let databricks = Databricks::start().await.unwrap();
    let url = format!("{}/api/2.2/jobs/runs/submit", databricks.url());
    let body = submit_body("one");
    let nobody = http_client().post(&url).json(&body).send().await.unwrap();
    assert_eq!(nobody.status().as_u16(), 401);
    let stranger = http_client()
        .post(&url)
        .bearer_auth("other")
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(stranger.status().as_u16(), 403);
    assert_eq!(databricks.runs(), []);
}

#[tokio::test]
async fn what_the_service_would_refuse_is_refused() {
    let databricks = Databricks::start().await.unwrap();
    let client = Client(&databricks);
    let task = json!({ "task_key": "a", "notebook_task": { "notebook_path": "/a" } });
    let cases = [
        json!({ "run_name": "x" }),
        json!({ "tasks": [] }),
        json!({ "tasks": [{ "task_key": "a" }] }),
        json!({ "tasks": [{ "notebook_task": { "notebook_path": "/a" } }] }),
        json!({ "tasks": [task, task] }),
        json!({ "tasks": [task], "notebook_params": { "rows": "x".repeat(10_000) } }),
    ];
    for body in cases {
        let (status, refusal) = client.post("runs/submit", &body).await;
        assert_eq!(
            (status, &refusal["error_code"]),
            (400, &json!("INVALID_PARAMETER_VALUE")),
            "{body}"
        );
    }
    assert_eq!(
        client.post("runs/submit", &json!("text")).await.1["error_code"],
        "MALFORMED_REQUEST"
    );
    assert_eq!(client.post("runs/export", &json!({})).await.0, 404);
    assert_eq!(databricks.runs(), []);
}

#[tokio::test]
async fn a_warehouse_answers_by_signed_addresses_and_says_failures_with_200() {
    let env = local_stack::TestEnv::new().await;
    let workspace = Databricks::start().await.unwrap();
    workspace.add_warehouse("fa1e", &env.database_url).await.unwrap();
    let api = format!("{}/api/2.0/sql/statements", workspace.url());
    let run = async |statement: &str| {
        let body = json!({
            "warehouse_id": "fa1e", "statement": statement, "wait_timeout": "30s",
            "disposition": "EXTERNAL_LINKS", "format": "ARROW_STREAM",
        });
        let sent = http_client()
            .post(&api)
            .bearer_auth(workspace.token())
            .json(&body)
            .send();
        let response = sent.await.unwrap();
        (
            response.status().as_u16(),
            response.json::<Value>().await.unwrap(),
        )
    };
    let (status, failed) = run("select * from `main`.`nowhere`.`nothing` limit 0").await;
    assert_eq!(
        (status, failed["status"]["state"].as_str()),
        (200, Some("FAILED")),
        "{failed}"
    );
    assert_eq!(failed["status"]["sql_state"], "42P01");

    workspace.chunk_rows(2);
    let (_, told) = run("select cast(n as double) as `n` from generate_series(1, 5) as n").await;
    assert_eq!(told["status"]["state"], "SUCCEEDED", "{told}");
    assert_eq!(told["manifest"]["total_row_count"], 5);
    assert_eq!(told["manifest"]["schema"]["columns"][0]["type_text"], "DOUBLE");
    let link = &told["result"]["external_links"][0];
    assert_eq!(
        (&link["row_count"], &link["next_chunk_index"]),
        (&json!(2), &json!(1))
    );
    let address = link["external_link"].as_str().unwrap();
    let with_token = http_client()
        .get(address)
        .bearer_auth(workspace.token())
        .send()
        .await
        .unwrap();
    assert_eq!(with_token.status(), 400, "a signed address takes no token");
    let unsigned = http_client()
        .get(address.split('?').next().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(unsigned.status(), 403);
    let bytes = http_client()
        .get(address)
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert!(bytes.len() > 100);
    let last = format!("{api}/{}/result/chunks/2", told["statement_id"].as_str().unwrap());
    let last = http_client()
        .get(last)
        .bearer_auth(workspace.token())
        .send()
        .await
        .unwrap();
    let last: Value = last.json().await.unwrap();
    assert_eq!(last["external_links"][0]["row_count"], 1);
    assert!(last["external_links"][0]["next_chunk_index"].is_null());
}
