-- A message that a person redrives gets a message id of its own: the broker has seen the other one.
alter table outbox add column redriven int not null default 0;

-- Who dealt with a dead letter, and why; nothing is dealt with without a word.
alter table dead_letter
    add column decided_by text,
    add column decided_at timestamptz,
    add column decision   text;
