-- The relay compares each new number with the highest one that the stream gave before.
create index outbox_stream_seq on outbox (stream_seq) where published_at is not null and subject not like 'dead.%';
