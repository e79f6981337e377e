-- The rows of the validation by their scores (schemas::events::ScoreCounts): what a score stands for. Null for promotions from before it
-- was counted.
alter table champion add column score_counts jsonb;

create or replace view public.drift_checks as
select check_id,
       model                       as model_name,
       as_of,
       champion,
       verdict,
       severity,
       since,
       consecutive,
       (report ->> 'rows')::bigint as window_rows,
       report -> 'not_measured'    as not_measured,
       recorded_at,
       (report -> 'estimated' ->> 'rows')::bigint                as estimated_rows,
       (report -> 'estimated' ->> 'recall')::double precision    as estimated_recall,
       (report -> 'estimated' ->> 'precision')::double precision as estimated_precision
from check_run;
