select
    run_key,
    min(start_time) as started_at,
    count(*) as queries,
    sum(queue_seconds) as queue_seconds,
    sum(execution_seconds) as execution_seconds,
    sum(elapsed_seconds) as elapsed_seconds,
    sum(scanned_bytes) as scanned_bytes
from {{ ref('audit_queries') }}
group by run_key
order by started_at desc
limit 30
