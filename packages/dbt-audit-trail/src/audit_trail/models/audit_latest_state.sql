{{ config(materialized='view', bind=false, tags=['audit_view']) }}
{%- do require_materialization('view') %}

with numbered as (
    select
        *,
        row_number() over (partition by unique_id order by run_started_at desc nulls last, run_key desc) as runs_ago,
        max(case when outcome = 'passed' or status = 'warn' then completed_at end) over (partition by unique_id) as last_passed_at
    from {{ ref('audit_node_history') }}
)

select
    unique_id,
    name,
    resource_type,
    materialization,
    relation_name,
    owner,
    outcome,
    status,
    message,
    failures,
    completed_at,
    last_passed_at,
    execution_time,
    rows_affected,
    depends_on,
    tags,
    source_max_loaded_at,
    run_key,
    airflow_log_url
from numbered
where runs_ago = 1
