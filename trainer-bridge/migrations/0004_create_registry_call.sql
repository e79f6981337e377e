-- A call that points a registry's alias at a version: written before it is made, ended when its promotion is. One that never
-- ended may still arrive: a process that stood still can send it after a newer promotion. Until `watched_until` the alias is
-- looked at for such calls, and put back.
create table registry_call (
    call_id       uuid        constraint registry_call_key primary key,
    model         text        not null references model (model),
    version       text        not null references model_version (version),
    fence         bigint      not null,
    begun_at      timestamptz not null default clock_timestamp(),
    ended_at      timestamptz,
    next_look_at  timestamptz not null default clock_timestamp(),
    watched_until timestamptz not null default clock_timestamp() + interval '24 hours'
);
create index registry_call_loose on registry_call (next_look_at) where ended_at is null;
