-- Each service has these in its own schema. What they promise: a state change and the events that announce
-- it are one transaction, and an event's effects happen once however often it is delivered.

create table outbox (
    event_id       uuid        constraint outbox_key primary key,
    seq            bigint      generated always as identity, -- order of writing within one service; no identity of an event
    subject        text        not null,
    event_type     text        not null,
    model          text        not null,
    correlation_id uuid        not null,
    causation_id   uuid,
    headers        jsonb       not null,
    data           bytea       not null constraint outbox_data_fits check (octet_length(data) <= 262144),
    created_at     timestamptz not null default clock_timestamp(),
    next_at        timestamptz not null default clock_timestamp(),
    attempt        int         not null default 0, -- failed publishes in a row
    offer          int         not null default 0, -- times the sweep offered it again; part of Nats-Msg-Id
    published_at   timestamptz,                    -- set by the relay after the publish ack; rows are marked, not deleted
    stream_seq     bigint,
    confirmed_at   timestamptz,                    -- set by the sweep once every required consumer has a receipt
    failed_reason  text                            -- permanent: no retry can help, a person must look
);
-- The relay polls this flag, never a position: transactions commit out of order.
create index outbox_unpublished on outbox (next_at, seq) where published_at is null and failed_reason is null;
create index outbox_unconfirmed on outbox (published_at) where published_at is not null and confirmed_at is null;
create index outbox_correlation on outbox (correlation_id);

create table inbox (
    consumer   text        not null,
    event_id   uuid        not null,
    state      text        not null constraint inbox_state_known check (state in ('done', 'dead')),
    first_seen timestamptz not null default clock_timestamp(),
    deliveries int         not null default 1,
    constraint inbox_key primary key (consumer, event_id)
);

-- Which broker this service last published to; compared on every connect.
create table broker_epoch (
    id             int    constraint broker_epoch_key primary key constraint broker_epoch_one_row check (id = 1),
    server_id      text   not null,
    max_stream_seq bigint not null default 0
);

create table dead_letter (
    dead_letter_id uuid        constraint dead_letter_key primary key,
    event_id       uuid        not null, -- of the event, or derived from the bytes when it could not be decoded
    consumer       text        not null,
    subject        text        not null,
    headers        jsonb       not null,
    data           bytea       not null,
    reason_class   text        not null,
    reason         text        not null,
    deliveries     int         not null,
    first_at       timestamptz not null default clock_timestamp(),
    last_at        timestamptz not null default clock_timestamp(),
    state          text        not null default 'parked'
                   constraint dead_letter_state_known check (state in ('parked', 'redriven', 'discarded')),
    constraint dead_letter_once unique (consumer, event_id)
);

-- Periodic work has no leader: whoever inserts the row does the slot.
create table slot (
    job     text        not null,
    slot    timestamptz not null,
    done_at timestamptz not null default clock_timestamp(),
    constraint slot_key primary key (job, slot)
);

-- One row per task run, under the names of the DAGs that people know; shown as public.airflow_task_metrics.
create table task_run (
    task_run_id       bigint      generated always as identity constraint task_run_key primary key,
    dag_id            text        not null,
    task_id           text        not null,
    execution_date    timestamptz not null,
    run_id            text        not null,
    duration_seconds  double precision,
    records_processed bigint,
    records_failed    bigint,
    cpu_percent       double precision,
    memory_mb         bigint,
    status            text        not null constraint task_run_status_known check (status in ('success', 'failed', 'running')),
    error_message     text,
    started_at        timestamptz not null,
    completed_at      timestamptz,
    constraint task_run_once unique (dag_id, task_id, run_id)
);
create index task_run_execution on task_run (execution_date);
