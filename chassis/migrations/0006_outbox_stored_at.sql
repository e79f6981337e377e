-- When the stream stored the message that it last acknowledged. An ack for a message that the broker had already leaves it as it
-- is: a broker that restarts again and again is offered what may be lost, not all that it ever acknowledged.
alter table outbox add column stored_at timestamptz;
