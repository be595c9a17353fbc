{{ config(materialized='view', bind=false, tags=['audit_view']) }}
{%- do require_materialization('view') %}

with counted as (
    select
        run_key,
        max(airflow_dag_id) as airflow_dag_id,
        max(airflow_run_id) as airflow_run_id,
        max(release_id) as release_id,
        max(run_date) as run_date,
        min(started_at) as started_at,
        max(completed_at) as completed_at,
        count(distinct invocation_id) as invocations,
        count(*) as nodes,
        sum(case when outcome = 'passed' then 1 else 0 end) as passed_nodes,
        sum(case when outcome = 'warned' then 1 else 0 end) as warned_nodes,
        sum(case when outcome = 'failed' then 1 else 0 end) as failed_nodes,
        sum(case when outcome = 'skipped' then 1 else 0 end) as skipped_nodes,
        sum(case when tries > 1 then 1 else 0 end) as retried_nodes,
        sum(execution_time) as busy_seconds
    from {{ ref('audit_node_history') }}
    group by run_key
)

select
    counted.run_key,
    counted.airflow_dag_id,
    counted.airflow_run_id,
    counted.release_id,
    counted.run_date,
    counted.started_at,
    counted.completed_at,
    {{ audit_seconds_between('counted.started_at', 'counted.completed_at') }} as duration_seconds,
    case when counted.failed_nodes > 0 then 'failed' when counted.warned_nodes > 0 then 'warned' else 'passed' end as outcome,
    counted.invocations,
    counted.nodes,
    counted.passed_nodes,
    counted.warned_nodes,
    counted.failed_nodes,
    counted.skipped_nodes,
    counted.retried_nodes,
    counted.busy_seconds,
    paths.critical_path,
    paths.critical_path_seconds
from counted
left join {{ ref('audit_critical_paths') }} as paths on counted.run_key = paths.run_key
