{{ config(materialized='view', bind=false, tags=['audit_view']) }}
{%- do require_materialization('view') %}

with recent as (
    select
        unique_id,
        name,
        resource_type,
        owner,
        outcome,
        tries,
        execution_time,
        case when outcome in ('passed', 'warned') then execution_time end as execution_time_of_success,
        times_usual,
        rows_affected,
        rows_change,
        row_number() over (partition by unique_id order by run_started_at desc nulls last, run_key desc) as runs_ago
    from {{ ref('audit_node_history') }}
    where outcome <> 'skipped'
)

select
    unique_id,
    max(name) as name,
    max(resource_type) as resource_type,
    max(owner) as owner,
    count(*) as runs,
    sum(case when outcome = 'failed' then 1 else 0 end) as failed_runs,
    sum(case when outcome = 'failed' then 1.0 else 0.0 end) / count(*) as failed_share,
    sum(case when tries > 1 then 1 else 0 end) as retried_runs,
    percentile_cont(0.5) within group (order by execution_time_of_success) as median_execution_time,
    percentile_cont(0.95) within group (order by execution_time_of_success) as p95_execution_time,
    max(execution_time) as longest_execution_time,
    sum(execution_time) as total_execution_time,
    max(case when runs_ago = 1 then execution_time end) as last_execution_time,
    max(case when runs_ago = 1 then times_usual end) as last_times_usual,
    max(case when runs_ago = 1 then rows_affected end) as last_rows_affected,
    max(case when runs_ago = 1 then rows_change end) as last_rows_change
from recent
group by unique_id
