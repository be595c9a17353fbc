{{ config(materialized='view', bind=false, tags=['audit_view']) }}
{%- do require_materialization('view') %}

-- dbt starts the SQL of a node with a comment that names the node. If the SQL has several statements, only the first has the
-- comment. The comment therefore identifies the session, and all queries of that session between the node's start and end
-- belong to the node.
-- sys_query_history shows users their own queries of about the last seven days, and superusers all queries.
-- https://docs.aws.amazon.com/redshift/latest/dg/SYS_QUERY_HISTORY.html
-- It has no scanned bytes. sys_query_detail has those of each step of a query, with the same visibility.
-- https://docs.aws.amazon.com/redshift/latest/dg/SYS_QUERY_DETAIL.html
with queries as (
    select
        *,
        split_part(split_part(query_text, '"node_id": "', 2), '"', 1) as node_id
    from pg_catalog.sys_query_history
),

sessions as (
    select distinct
        queries.session_id,
        audit_table.unique_id,
        audit_table.name,
        audit_table.started_at,
        audit_table.completed_at,
        audit_table.invocation_id,
        {{ audit_run_key() }} as run_key,
        audit_table.airflow_dag_id,
        audit_table.airflow_run_id,
        audit_table.airflow_task_id,
        audit_table.release_id
    from queries
    inner join {{ ref('audit_table') }} as audit_table
        on
            queries.node_id = audit_table.unique_id
            and queries.start_time between audit_table.started_at and audit_table.completed_at
),

scans as (
    select
        query_id,
        sum(input_bytes) as scanned_bytes
    from pg_catalog.sys_query_detail
    where step_name = 'scan' and lower(metrics_level) = 'step'
    group by query_id
)

select
    queries.query_id,
    queries.query_type,
    queries.status,
    queries.start_time,
    cast(queries.elapsed_time / 1000000.0 as decimal(18, 6)) as elapsed_seconds,
    cast(queries.queue_time / 1000000.0 as decimal(18, 6)) as queue_seconds,
    cast(queries.execution_time / 1000000.0 as decimal(18, 6)) as execution_seconds,
    queries.returned_rows,
    scans.scanned_bytes,
    sessions.unique_id,
    sessions.name,
    sessions.invocation_id,
    sessions.run_key,
    sessions.airflow_dag_id,
    sessions.airflow_run_id,
    sessions.airflow_task_id,
    sessions.release_id
from sessions
inner join queries
    on
        sessions.session_id = queries.session_id
        and queries.start_time between sessions.started_at and sessions.completed_at
left join scans on queries.query_id = scans.query_id
