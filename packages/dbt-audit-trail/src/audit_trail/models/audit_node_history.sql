{{ config(materialized='view', bind=false, tags=['audit_view']) }}
{%- do require_materialization('view') %}

-- One row for each node in each run. Only the last of several tries counts.
with tries as (
    select
        {{ audit_run_key() }} as run_key,
        {{ audit_outcome() }} as outcome,
        audit_table.*,
        row_number() over (
            partition by {{ audit_run_key() }}, unique_id
            order by coalesce(completed_at, started_at) desc nulls last, airflow_try_number desc nulls last, load_id desc
        ) as tries_from_last,
        count(*) over (partition by {{ audit_run_key() }}, unique_id) as tries
    from {{ ref('audit_table') }} as audit_table
),

runs as (
    select
        run_key,
        max(model_execution_date) as run_date,
        min(started_at) as run_started_at
    from tries
    group by run_key
),

last_tries as (
    select
        tries.*,
        runs.run_date,
        runs.run_started_at
    from tries
    inner join runs on tries.run_key = runs.run_key
    where tries.tries_from_last = 1
),

-- Only successful runs: skipped and failed ones say nothing about duration and rows.
compared as (
    select
        run_key,
        unique_id,
        avg(execution_time) over (
            partition by unique_id
            order by run_started_at, run_key
            rows between {{ var('audit_compared_runs') }} preceding and 1 preceding
        ) as usual_execution_time,
        lag(rows_affected) over (partition by unique_id order by run_started_at, run_key) as previous_rows_affected
    from last_tries
    where outcome in ('passed', 'warned')
)

select
    last_tries.run_key,
    last_tries.run_date,
    last_tries.run_started_at,
    last_tries.unique_id,
    last_tries.name,
    last_tries.resource_type,
    last_tries.materialization,
    last_tries.relation_name,
    last_tries.outcome,
    last_tries.status,
    -- dbt has no message about the freshness of a source.
    coalesce(
        last_tries.message, 'newest row loaded at ' || to_char(last_tries.source_max_loaded_at, 'YYYY-MM-DD HH24:MI')
    ) as message,
    last_tries.failures,
    last_tries.tries,
    last_tries.started_at,
    last_tries.completed_at,
    last_tries.execution_time,
    compared.usual_execution_time,
    last_tries.execution_time / nullif(compared.usual_execution_time, 0) as times_usual,
    last_tries.rows_affected,
    last_tries.rows_affected - compared.previous_rows_affected as rows_change,
    last_tries.depends_on,
    last_tries.owner,
    last_tries.tags,
    last_tries.source_max_loaded_at,
    last_tries.release_id,
    last_tries.invocation_id,
    last_tries.airflow_dag_id,
    last_tries.airflow_run_id,
    last_tries.airflow_task_id,
    last_tries.airflow_log_url
from last_tries
left join compared
    on
        last_tries.run_key = compared.run_key
        and last_tries.unique_id = compared.unique_id
