-- The decider's whole memory: one row per model, and one row per trigger with the decision it led to.
create table model_state (
    model               text        constraint model_state_key primary key,
    training_decision   uuid,        -- a training that was requested and has not ended
    training_since      timestamptz, -- its decision's as_of
    last_completed_at   timestamptz, -- as_of of the last training that gave a model, promoted or not
    last_failed_at      timestamptz, -- as_of of the last training that gave none
    champion            text,
    champion_as_of      timestamptz,
    champion_fence      bigint      not null default 0,
    pending_drift       jsonb,       -- retrain_decider::decide::Drift held back by a running training, read only by store.rs
    pending_event       uuid,
    pending_correlation uuid,
    revision            bigint      not null default 0,
    constraint model_state_training_whole check ((training_decision is null) = (training_since is null))
);

create table trigger (
    trigger_id        bigint      generated always as identity constraint trigger_key primary key,
    decision_id       uuid        not null constraint trigger_decision_once unique,
    model             text        not null,
    triggered_at      timestamptz not null, -- as_of: the instant decided as of
    trigger_kind      text        not null,
    trigger_reason    text        not null,
    drift_type        text,
    drift_severity    text,
    check_id          uuid,
    priority          text,
    status            text        not null
                      constraint trigger_status_known check (status in ('pending', 'running', 'completed', 'failed', 'declined')),
    declined_reason   text,
    completed_at      timestamptz,
    error_message     text,
    run_id            text,
    new_model_version text,
    rules             jsonb       not null, -- every rule with inputs and outcome
    counterfactuals   jsonb       not null,
    policy            jsonb       not null, -- the policy in force
    cause             text        not null, -- the event or slot that asked
    correlation_id    uuid        not null,
    recorded_at       timestamptz not null default clock_timestamp(),
    constraint trigger_once unique (model, cause)
);
create index trigger_triggered_at on trigger (triggered_at desc);
create index trigger_status on trigger (status);
create index trigger_breaker on trigger (model, triggered_at) where priority = 'immediate';

-- The table that people query, with every column they know and what is new behind.
create view public.retraining_triggers as
select trigger_id                                as id,
       triggered_at,
       trigger_reason,
       drift_type,
       drift_severity,
       '01_training_pipeline'::text              as airflow_dag_id,
       coalesce(run_id, decision_id::text)       as airflow_run_id,
       triggered_at                              as airflow_execution_date,
       status,
       completed_at,
       error_message,
       null::bigint                              as drift_metrics_id, -- join drift_metrics on check_id instead
       new_model_version,
       model                                     as model_name,
       decision_id,
       check_id,
       trigger_kind,
       priority,
       declined_reason,
       rules,
       counterfactuals,
       correlation_id,
       recorded_at
from trigger;
