select
    run_key,
    name,
    resource_type,
    status,
    message,
    owner,
    airflow_log_url
from {{ ref('audit_node_history') }}
where
    outcome = 'failed'
    and run_date = cast('{{ var('audit_day', run_started_at.strftime('%Y-%m-%d')) }}' as date)
order by run_started_at, started_at
