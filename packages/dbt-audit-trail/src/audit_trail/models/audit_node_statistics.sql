{{ config(materialized='view', bind=false, tags=['audit_view']) }}
{%- do require_materialization('view') %}

with recent as (
    select
        *,
        row_number() over (partition by unique_id order by run_started_at desc nulls last, run_key desc) as runs_ago
    from {{ ref('audit_node_history') }}
    where outcome <> 'skipped'
),

durations as (
    select
        unique_id,
        percentile_cont(0.5) within group (order by execution_time) as median_execution_time,
        percentile_cont(0.95) within group (order by execution_time) as p95_execution_time
    from recent
    where outcome in ('passed', 'warned')
    group by unique_id
)

select
    recent.unique_id,
    max(recent.name) as name,
    max(recent.resource_type) as resource_type,
    max(recent.owner) as owner,
    count(*) as runs,
    sum(case when recent.outcome = 'failed' then 1 else 0 end) as failed_runs,
    sum(case when recent.outcome = 'failed' then 1.0 else 0.0 end) / count(*) as failed_share,
    sum(case when recent.tries > 1 then 1 else 0 end) as retried_runs,
    max(durations.median_execution_time) as median_execution_time,
    max(durations.p95_execution_time) as p95_execution_time,
    max(recent.execution_time) as longest_execution_time,
    sum(recent.execution_time) as total_execution_time,
    max(case when recent.runs_ago = 1 then recent.execution_time end) as last_execution_time,
    max(case when recent.runs_ago = 1 then recent.times_usual end) as last_times_usual,
    max(case when recent.runs_ago = 1 then recent.rows_affected end) as last_rows_affected,
    max(case when recent.runs_ago = 1 then recent.rows_change end) as last_rows_change
from recent
left join durations on recent.unique_id = durations.unique_id
group by recent.unique_id
