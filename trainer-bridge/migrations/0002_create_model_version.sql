-- Every candidate that was trained, with what became of it.
create table model_version (
    model_version_id    bigint      generated always as identity constraint model_version_key primary key,
    version             text        not null constraint model_version_unique unique,
    model               text        not null references model (model),
    job_id              uuid        not null constraint model_version_once_per_job unique references training_job (job_id),
    decision_id         uuid        not null,
    as_of               timestamptz not null, -- instant the training knew
    fence               bigint      not null,
    backend             text        not null,
    algorithm           text        not null,
    artifact            jsonb       not null, -- schemas::events::Artifact: address, sha256, size, format
    operating_threshold double precision not null,
    training_start      timestamptz not null,
    training_end        timestamptz not null,
    training_rows       bigint      not null,
    training_frauds     bigint      not null,
    training_seconds    double precision not null,
    training_config     jsonb       not null, -- seed, spans, hyper-parameters, figures the trainer reports
    recall              double precision, -- these five: from the validation
    precision           double precision,
    f1_score            double precision,
    auc_roc             double precision,
    false_positive_rate double precision,
    status              text        not null default 'trained' constraint model_version_status_known check (status in
                        ('trained', 'staging', 'production', 'retired')),
    deployed_at         timestamptz, -- instant of the decision it became champion by
    retired_at          timestamptz, -- instant of the decision that ended it
    registry            text        not null,
    registry_version    text,
    registry_run_id     text,
    model_uri           text,
    notes               text,
    created_at          timestamptz not null default clock_timestamp(),
    changed_at          timestamptz not null default clock_timestamp()
);
create index model_version_model on model_version (model, as_of);
create unique index model_version_one_champion on model_version (model) where status = 'production';

-- The table that people know, every column of it widened where it overflowed.
create view public.model_versions as
select model_version_id                                    as id,
       version,
       as_of                                               as training_date,
       training_rows                                       as training_dataset_size,
       training_seconds                                    as training_duration_seconds,
       recall,
       precision,
       f1_score,
       auc_roc,
       false_positive_rate,
       status                                              as deployment_status,
       deployed_at,
       retired_at,
       registry_run_id                                     as mlflow_run_id,
       coalesce(model_uri, artifact ->> 'uri')             as mlflow_model_uri,
       training_config,
       notes,
       model,
       algorithm,
       backend,
       decision_id,
       artifact ->> 'sha256'                               as artifact_sha256,
       operating_threshold,
       training_start,
       training_end,
       training_frauds,
       registry,
       registry_version,
       created_at
from model_version;
