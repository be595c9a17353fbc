{{ config(materialized='view', bind=false, tags=['audit_view']) }}
{%- do require_materialization('view') %}

with results as (
    select
        unique_id,
        name,
        outcome,
        failures,
        run_started_at,
        lag(outcome) over (partition by unique_id order by run_started_at, run_key) as previous_outcome,
        row_number() over (partition by unique_id order by run_started_at desc, run_key desc) as runs_ago
    from {{ ref('audit_node_history') }}
    where
        resource_type in ('test', 'unit_test')
        and outcome <> 'skipped'
),

counted as (
    select
        unique_id,
        max(name) as name,
        count(*) as runs,
        sum(case when outcome = 'passed' then 1 else 0 end) as passed_runs,
        sum(case when outcome = 'warned' then 1 else 0 end) as warned_runs,
        sum(case when outcome = 'failed' then 1 else 0 end) as failed_runs,
        sum(case when outcome <> previous_outcome then 1 else 0 end) as changes,
        max(case when runs_ago = 1 then outcome end) as last_outcome,
        max(case when runs_ago = 1 then failures end) as last_failures,
        max(case when outcome = 'passed' then run_started_at end) as last_passed_at
    from results
    group by unique_id
)

select
    unique_id,
    name,
    runs,
    passed_runs,
    warned_runs,
    failed_runs,
    changes,
    last_outcome,
    last_failures,
    last_passed_at,
    -- The first match counts: a test whose outcome changed three times is flaky, even if its last outcome is a success.
    case
        when changes >= 3 then 'flaky'
        when runs = warned_runs then 'always warning'
        when runs = failed_runs then 'always failing'
        when last_outcome = 'passed' then 'healthy'
        else last_outcome
    end as health
from counted
