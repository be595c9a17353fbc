select
    name,
    last_execution_time,
    last_execution_time / last_times_usual as usual_execution_time,
    last_times_usual
from {{ ref('audit_node_statistics') }}
where
    last_times_usual >= 1.5
    -- For very short nodes, half a second is many times the usual duration.
    and last_execution_time >= 1
order by last_times_usual desc
