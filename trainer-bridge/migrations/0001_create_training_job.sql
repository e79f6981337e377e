-- One row per model: the order of its decisions, and who is champion. Locked while either changes.
create table model (
    model          text   constraint model_key primary key,
    last_fence     bigint not null default 0, -- fence given to the newest decision
    champion       text,                      -- version that is champion
    champion_fence bigint not null default 0  -- its fence; a promotion with a smaller one is refused
);

-- A training, from the request to the announcement. The row is everything that survives `kill -9`.
create table training_job (
    job_id         uuid        constraint training_job_key primary key,
    model          text        not null references model (model),
    decision_id    uuid        not null constraint training_job_once_per_decision unique,
    as_of          timestamptz not null,
    priority       text        not null,
    plan           jsonb       not null, -- trainer_bridge::job::Plan: spans and seed, fixed when submitted
    backend        text        not null,
    fence          bigint      not null,
    state          text        not null default 'accepted' constraint training_job_state_known check (state in
                   ('accepted', 'submitting', 'running', 'succeeded', 'failed', 'cancelled', 'timed_out', 'reported')),
    outcome        text        constraint training_job_outcome_known check (outcome in
                   ('succeeded', 'failed', 'cancelled', 'timed_out')), -- stays when the state becomes `reported`
    revision       bigint      not null default 1, -- every update names state and revision: a late one changes nothing
    attempt        int         not null default 0,
    token          text        constraint training_job_token_fits check (length(token) <= 64), -- committed before the call
    run_id         text,
    run_url        text,
    failure        text,
    failure_detail text,
    candidate      jsonb,       -- trainer_bridge::job::Candidate
    version        text,        -- of the candidate, once announced
    deadline       timestamptz not null, -- ends after this, whatever happens
    since          timestamptz not null default clock_timestamp(), -- in this state
    next_poll_at   timestamptz not null default clock_timestamp(),
    retries        int         not null default 0, -- transient errors in a row
    last_error     text,
    progress       text,        -- in the backend's words
    owner          uuid,        -- process that works on it
    lease_until    timestamptz, -- until then nobody else does
    accepted_at    timestamptz not null default clock_timestamp(),
    started_at     timestamptz,
    ended_at       timestamptz,
    reported_at    timestamptz,
    cause_event_id uuid        not null,
    correlation_id uuid        not null,
    trace_parent   text,        -- so that the trace goes on after a restart
    trace_state    text
);
create index training_job_due on training_job (next_poll_at) where state <> 'reported';
create index training_job_model on training_job (model, as_of);
