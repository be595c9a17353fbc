select
    started_at,
    run_key,
    outcome,
    duration_seconds,
    nodes,
    failed_nodes,
    skipped_nodes
from {{ ref('audit_runs') }}
order by started_at desc
limit 30
