#!/bin/sh
# Runs once, when the database is made: a role for Grafana that may read the public views.
set -eu
psql --set ON_ERROR_STOP=1 --set reader_password="$GRAFANA_READER_PASSWORD" \
    --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
create role grafana_reader login password :'reader_password';
alter role grafana_reader set default_transaction_read_only = on;
alter role grafana_reader set statement_timeout = '30s';
grant usage on schema public to grafana_reader;
-- The services make the views later; what they make in `public` may be read.
alter default privileges in schema public grant select on tables to grafana_reader;
SQL
