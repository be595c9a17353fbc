select
    history.name,
    history.resource_type,
    history.status,
    history.message,
    history.owner,
    history.airflow_log_url
from {{ ref('audit_node_history') }} as history
where
    history.outcome = 'failed'
    and history.run_key = (
        select runs.run_key from {{ ref('audit_runs') }} as runs
        where runs.started_at is not null
        order by runs.started_at desc
        limit 1
    )
order by history.started_at
