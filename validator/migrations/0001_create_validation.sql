-- One row per candidate: what was judged, on which bytes and rows, and the whole report.
create table validation (
    version        text        constraint validation_key primary key,
    model          text        not null,
    decision_id    uuid        not null,
    as_of          timestamptz not null,
    verdict        text        not null constraint validation_verdict_known check (verdict in ('passed', 'failed')),
    sha256         text        not null,
    report         jsonb       not null, -- the body of model.validated
    recorded_at    timestamptz not null default clock_timestamp()
);
create index validation_model on validation (model, as_of);
