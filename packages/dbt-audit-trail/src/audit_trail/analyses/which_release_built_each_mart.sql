select
    state.relation_name,
    state.completed_at,
    invocations.release_id,
    invocations.invocation_id,
    invocations.airflow_run_id,
    invocations.airflow_task_id
from {{ ref('audit_node_history') }} as state
inner join {{ ref('audit_latest_state') }} as latest
    on
        state.unique_id = latest.unique_id
        and state.completed_at = latest.last_passed_at
inner join {{ ref('audit_invocations') }} as invocations on state.invocation_id = invocations.invocation_id
where charindex('"mart"', state.tags) > 0
order by state.relation_name
