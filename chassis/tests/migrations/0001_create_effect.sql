-- What the tests' handlers do to the world: one row per effect, so that doubles can be counted.
create table effect (
    effect_id bigint generated always as identity constraint effect_key primary key,
    event_id  uuid   not null,
    note      text   not null
);

-- Each run of a handler leaves a visit outside of its transaction.
create table visit (
    visit_id bigint generated always as identity constraint visit_key primary key,
    event_id uuid   not null
);

-- A handler that waits goes on when its gate is here.
create table gate (
    name text constraint gate_key primary key
);
