-- Runs once, when the database is made: an empty table of payments for the model in vigie.toml.
-- Fill it, or name your own table or view there instead.
create schema bank;
create table bank.payment (
    transaction_id    bigint           generated always as identity constraint payment_key primary key,
    tx_time           timestamptz      not null,
    is_fraud          boolean,          -- null: not known yet
    labelled_at       timestamptz,      -- when the label became known
    score             double precision, -- what the serving model said, 0 to 1
    amount            double precision,
    merchant_category text,
    payments_7d       double precision
);
create index payment_time on bank.payment (tx_time);
