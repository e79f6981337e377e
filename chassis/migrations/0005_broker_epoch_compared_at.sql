-- When the broker was last seen to be the one of this row: what it may have lost is counted back from here, however late its
-- successor is noticed.
alter table broker_epoch add column compared_at timestamptz not null default clock_timestamp();
