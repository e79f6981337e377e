-- Hours are stored before every label is known, and learn what becomes known; until then `known_at` is the instant whose knowledge they hold.
alter table hour_outcome add column is_final boolean not null default true;
