select
    name,
    resource_type,
    runs,
    median_execution_time,
    p95_execution_time,
    total_execution_time
from {{ ref('audit_node_statistics') }}
order by median_execution_time desc nulls last
limit 20
