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
        count(*) over (partition by {{ audit_run_key() }}, unique_id) as tries,
        max(model_execution_date) over (partition by {{ audit_run_key() }}) as run_date,
        min(started_at) over (partition by {{ audit_run_key() }}) as run_started_at
    from {{ ref('audit_table') }} as audit_table
),

last_tries as (
    select
        *,
        case when outcome in ('passed', 'warned') then 1 else 0 end as is_success
    from tries
    where tries_from_last = 1
),

-- Only successful runs are compared with each other: skipped and failed ones say nothing about duration and rows.
compared as (
    select
        *,
        case
            when is_success = 1
                then avg(execution_time) over (
                    partition by unique_id, is_success
                    order by run_started_at, run_key
                    rows between {{ var('audit_compared_runs') }} preceding and 1 preceding
                )
        end as usual_execution_time,
        case
            when is_success = 1
                then lag(rows_affected) over (partition by unique_id, is_success order by run_started_at, run_key)
        end as previous_rows_affected
    from last_tries
)

select
    run_key,
    run_date,
    run_started_at,
    unique_id,
    name,
    resource_type,
    materialization,
    relation_name,
    outcome,
    status,
    -- dbt has no message about the freshness of a source.
    coalesce(
        message, 'newest row loaded at ' || to_char(source_max_loaded_at, 'YYYY-MM-DD HH24:MI')
    ) as message,
    failures,
    tries,
    started_at,
    completed_at,
    execution_time,
    usual_execution_time,
    execution_time / nullif(usual_execution_time, 0) as times_usual,
    rows_affected,
    rows_affected - previous_rows_affected as rows_change,
    depends_on,
    owner,
    tags,
    source_max_loaded_at,
    release_id,
    invocation_id,
    airflow_dag_id,
    airflow_run_id,
    airflow_task_id,
    airflow_log_url
from compared
