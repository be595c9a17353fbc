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
    and run_date = cast(coalesce(nullif('{{ var('audit_day', '') }}', ''), to_char(getdate(), 'YYYY-MM-DD')) as date)
order by run_started_at, started_at
