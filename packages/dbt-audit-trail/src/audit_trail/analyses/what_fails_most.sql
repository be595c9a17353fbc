select
    name,
    resource_type,
    owner,
    runs,
    failed_runs,
    failed_share,
    retried_runs
from {{ ref('audit_node_statistics') }}
where failed_runs > 0 or retried_runs > 0
order by failed_share desc, retried_runs desc, name asc
limit 20
