-- Whom to compare with: every promotion of a model, roll-backs included. The champion as of an instant is the
-- promotion with the largest fence among those promoted as of it or earlier.
create table champion (
    model               text             not null,
    fence               bigint           not null,
    version             text             not null,
    promoted_as_of      timestamptz      not null,
    training_start      timestamptz      not null,
    training_end        timestamptz      not null,
    operating_threshold double precision not null,
    validated_recall    double precision not null,
    validated_precision double precision not null,
    validated_frauds    bigint           not null,
    constraint champion_key primary key (model, fence)
);

-- What checks against a version compare with: drift_monitor::reference::Reference, read only by store.rs. Built at the
-- promotion, or by the first check that can.
create table reference (
    model     text        not null,
    version   text        not null,
    reference jsonb       not null,
    built_at  timestamptz not null default clock_timestamp(),
    constraint reference_key primary key (model, version)
);

-- Hours reduced to counts in a version's bins, stored once they are complete.
create table hour_profile (
    model   text        not null,
    version text        not null,
    hour    timestamptz not null,
    profile jsonb       not null,
    constraint hour_profile_key primary key (model, version, hour)
);

-- Hours reduced to scores and labels, stored once every label is known; `known_at` is the check that saw it, and a
-- check as of an earlier instant must not know them.
create table hour_outcome (
    model    text        not null,
    version  text        not null,
    hour     timestamptz not null,
    known_at timestamptz not null,
    outcome  jsonb       not null,
    constraint hour_outcome_key primary key (model, version, hour)
);

-- One row per model and instant, whoever asked.
create table check_run (
    check_id    uuid        constraint check_run_key primary key,
    model       text        not null,
    as_of       timestamptz not null,
    champion    text,
    verdict     text        not null constraint check_run_verdict_known check (verdict in ('stable', 'drifted', 'unknown')),
    severity    text,
    since       timestamptz, -- first check of this unbroken run of drifted ones
    consecutive int         not null default 0,
    report      jsonb       not null, -- the body of drift.checked
    recorded_at timestamptz not null default clock_timestamp(),
    constraint check_run_once unique (model, as_of)
);

create table drift_metric (
    drift_metric_id    bigint           generated always as identity constraint drift_metric_key primary key,
    check_id           uuid             not null constraint drift_metric_of_check references check_run on delete cascade,
    model              text             not null,
    detected_at        timestamptz      not null, -- the check's as_of
    metric_type        text             not null,
    metric_name        text             not null,
    metric_value       double precision not null,
    threshold          double precision not null,
    threshold_exceeded boolean          not null default false,
    severity           text             not null,
    feature_name       text,
    details            jsonb            not null,
    constraint drift_metric_once unique (check_id, metric_name)
);
create index drift_metric_detected_at on drift_metric (detected_at desc);
create index drift_metric_type on drift_metric (metric_type, detected_at);
create index drift_metric_exceeded on drift_metric (detected_at) where threshold_exceeded;

-- The table that people query, with every column they know, `timestamp` and `detected_at` alike, and what is new behind.
create view public.drift_metrics as
select drift_metric_id as id,
       detected_at     as "timestamp",
       metric_type,
       metric_name,
       metric_value,
       threshold,
       threshold_exceeded,
       severity,
       feature_name,
       details,
       detected_at,
       model           as model_name,
       check_id
from drift_metric;

-- Every check, also those that found nothing or could not look.
create view public.drift_checks as
select check_id,
       model                       as model_name,
       as_of,
       champion,
       verdict,
       severity,
       since,
       consecutive,
       (report ->> 'rows')::bigint as window_rows,
       report -> 'not_measured'    as not_measured,
       recorded_at
from check_run;
