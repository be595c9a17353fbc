{{ config(materialized='view', bind=false, tags=['audit_view']) }}
{%- do require_materialization('view') %}

select
    invocation_id,
    {{ audit_run_key() }} as run_key,
    max(airflow_dag_id) as airflow_dag_id,
    max(airflow_run_id) as airflow_run_id,
    max(airflow_task_id) as airflow_task_id,
    max(airflow_try_number) as airflow_try_number,
    max(airflow_logical_date) as airflow_logical_date,
    max(airflow_log_url) as airflow_log_url,
    max(dbt_command) as dbt_command,
    max(case when full_refresh then 1 else 0 end) = 1 as full_refresh,
    max(target_name) as target_name,
    max(dbt_version) as dbt_version,
    max(release_id) as release_id,
    min(started_at) as started_at,
    max(completed_at) as completed_at,
    {{ audit_seconds_between('min(started_at)', 'max(completed_at)') }} as duration_seconds,
    count(*) as nodes,
    sum(case when {{ audit_outcome() }} = 'failed' then 1 else 0 end) as failed_nodes,
    sum(case when {{ audit_outcome() }} = 'skipped' then 1 else 0 end) as skipped_nodes
from {{ ref('audit_table') }}
group by invocation_id, {{ audit_run_key() }}
