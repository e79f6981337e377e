-- What was said, received, parked and decided, for good: one row each, written in the transaction of the effect itself.
--
-- Rows are appended unsealed, so writers never wait for each other. The sealer gives them their places in the chain
-- afterwards: in the order of sealing, so that a row whose transaction commits late is never skipped.
create table event_log (
    seq            bigint      generated always as identity constraint event_log_key primary key,
    at             timestamptz not null default clock_timestamp() constraint event_log_at_finite check (isfinite(at)),
    what           text        not null constraint event_log_what_known check (what in
                   ('said', 'received', 'parked', 'redriven', 'discarded')),
    event_id       uuid        not null,
    event_type     text        not null,
    model          text        not null,
    correlation_id uuid        not null,
    causation_id   uuid,
    entry          text        not null, -- JSON as it was written: headers with the trace; for a decision of a person, who and why
    body           bytea,                -- of what was said; the chain covers its sha256
    link           bigint,               -- place in the chain, from 1; these three are null until the row is sealed
    prev_hash      bytea,
    hash           bytea,
    constraint event_log_sealed_or_not check (num_nulls(link, prev_hash, hash) in (0, 3))
);
create unique index event_log_link on event_log (link) where link is not null;
create index event_log_unsealed on event_log (seq) where link is null;
create index event_log_correlation on event_log (correlation_id);
create index event_log_event on event_log (event_id);

-- The newest link, apart from the rows: a chain whose tail is gone still verifies row by row.
create table event_log_head (
    id   int    constraint event_log_head_key primary key constraint event_log_head_one_row check (id = 1),
    link bigint not null,
    hash bytea  not null -- of link 0 it names the schema: no chain can stand in for another's
);
insert into event_log_head (id, link, hash)
values (1, 0, sha256(convert_to('vigie event log of ' || current_schema(), 'UTF8')));

create function refuse_to_forget() returns trigger language plpgsql as $$
begin
    raise exception 'table % of schema % is append-only: % is refused', tg_table_name, tg_table_schema, lower(tg_op)
        using errcode = 'insufficient_privilege', hint = 'what happened stays on record; see `vigie audit verify`';
end
$$;

create trigger event_log_unsealed_at_first before insert on event_log for each row
    when (new.link is not null or new.prev_hash is not null or new.hash is not null) execute function refuse_to_forget();
create trigger event_log_content_stays
    before update of seq, at, what, event_id, event_type, model, correlation_id, causation_id, entry, body on event_log
    for each statement execute function refuse_to_forget();
create trigger event_log_sealed_once before update of link, prev_hash, hash on event_log for each row
    when (old.link is not null or new.link is null) execute function refuse_to_forget();
create trigger event_log_rows_stay before delete or truncate on event_log
    for each statement execute function refuse_to_forget();
create trigger event_log_head_moves_on before update on event_log_head for each row
    when (new.link <= old.link or new.id <> old.id) execute function refuse_to_forget();
create trigger event_log_head_stays before delete or truncate on event_log_head
    for each statement execute function refuse_to_forget();
