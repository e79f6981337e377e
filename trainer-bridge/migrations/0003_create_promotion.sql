-- A promotion is written as an intent first; whoever finds one after a crash looks before it acts.
create table promotion (
    promotion_id   uuid        constraint promotion_key primary key,
    model          text        not null references model (model),
    version        text        not null references model_version (version),
    decision_id    uuid        not null,
    fence          bigint      not null, -- of the decision; strictly increasing over the champions of a model
    validated      jsonb       not null, -- schemas::events::ModelValidated: the report it stands on
    state          text        not null default 'intent' constraint promotion_state_known check (state in
                   ('intent', 'promoted', 'refused')),
    reason         text,        -- why it was refused
    revision       bigint      not null default 1,
    deadline       timestamptz not null,
    next_try_at    timestamptz not null default clock_timestamp(),
    retries        int         not null default 0,
    last_error     text,
    owner          uuid,
    lease_until    timestamptz, -- one promotion of a model at a time
    created_at     timestamptz not null default clock_timestamp(),
    ended_at       timestamptz,
    cause_event_id uuid        not null,
    correlation_id uuid        not null,
    trace_parent   text,
    trace_state    text,
    constraint promotion_once unique (model, version)
);
create index promotion_due on promotion (next_try_at) where state = 'intent';
