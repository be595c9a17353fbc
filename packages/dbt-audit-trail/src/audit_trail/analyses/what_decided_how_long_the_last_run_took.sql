select
    started_at,
    duration_seconds,
    critical_path,
    critical_path_seconds
from {{ ref('audit_runs') }}
where critical_path is not null
order by started_at desc
limit 1
