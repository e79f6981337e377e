-- Counted at every scrape; there should be none.
create index outbox_failed on outbox (event_id) where failed_reason is not null;
