-- One row per event that took effect. No constraint: were an event to take effect twice, there would be two.
create table effect (
    event_id uuid        not null,
    at       timestamptz not null default clock_timestamp()
);
create index effect_event on effect (event_id);
