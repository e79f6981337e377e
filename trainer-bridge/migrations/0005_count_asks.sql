-- How often the run of this attempt was asked for, or may have been: after the first time it may exist.
alter table training_job add column asks int not null default 0;
update training_job set asks = 1 where state = 'submitting';
