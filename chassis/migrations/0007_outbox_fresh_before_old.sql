-- What every reader has had is published again only for others: it comes after what somebody waits for.
create index outbox_waiting on outbox ((confirmed_at is not null), next_at, seq) where published_at is null and failed_reason is null;
drop index outbox_unpublished;
