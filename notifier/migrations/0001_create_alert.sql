-- One row per event and recipient: what a person is to be told, and how far that got.
-- pending → sending → sent | failed; a failed attempt goes back to pending until attempts are used up.
create table alert (
    alert_id        uuid        constraint alert_key primary key, -- derived from event, channel and recipient; shown in the message
    event_id        uuid        not null,
    event_type      text        not null,
    model           text        not null,
    correlation_id  uuid        not null,
    occasion        text        not null, -- names what is told once, e.g. one episode of drift at one severity
    channel         text        not null constraint alert_channel_known check (channel in ('email', 'slack')),
    recipient       text        not null, -- a mail address, or the label of a webhook; never its URL
    thread_id       uuid,                 -- first alert of the same loop to the same recipient, which this one answers
    severity        text        not null,
    subject         text        not null,
    content         jsonb       not null, -- notifier::alert::Alert, read only by store.rs
    trace_parent    text,
    trace_state     text,
    state           text        not null default 'pending'
                    constraint alert_state_known check (state in ('pending', 'sending', 'sent', 'failed')),
    version         bigint      not null default 1, -- guards every transition: an outdated one changes no row
    attempts        int         not null default 0, -- begun, whatever became of them
    next_attempt_at timestamptz not null default clock_timestamp(),
    lease_until     timestamptz,          -- while sending; a sender that died loses the row when it ends
    last_error      text,
    created_at      timestamptz not null default clock_timestamp(),
    finished_at     timestamptz,
    constraint alert_event_once unique (event_id, channel, recipient),
    constraint alert_occasion_once unique (occasion, channel, recipient)
);
create index alert_due on alert (channel, next_attempt_at) where state in ('pending', 'sending');
create index alert_loop on alert (correlation_id, channel, recipient, created_at);
