{{ config(materialized='view', bind=false, tags=['audit_view']) }}

-- The chain of nodes that decided how long each run took: from the node that ended last, back along the dependency that ended
-- last, to a node that waited for nothing in the run.
with recursive waits as (
    select
        child.run_key,
        child.unique_id,
        parent.unique_id as waited_for,
        row_number() over (
            partition by child.run_key, child.unique_id
            order by parent.completed_at desc, parent.unique_id asc
        ) as place
    from {{ ref('audit_node_history') }} as child
    inner join {{ ref('audit_node_history') }} as parent
        on
            child.run_key = parent.run_key
            and charindex('"' || parent.unique_id || '"', child.depends_on) > 0
            and child.started_at >= parent.completed_at
),

ended as (
    select
        run_key,
        unique_id,
        row_number() over (partition by run_key order by completed_at desc, unique_id asc) as place
    from {{ ref('audit_node_history') }}
    where completed_at is not null
),

path (run_key, unique_id, steps_from_end) as (
    select
        run_key,
        unique_id,
        0 as steps_from_end
    from ended
    where place = 1

    union all

    select
        path.run_key,
        waits.waited_for as unique_id,
        path.steps_from_end + 1 as steps_from_end
    from path
    inner join waits
        on
            path.run_key = waits.run_key
            and path.unique_id = waits.unique_id
            and waits.place = 1
)

select
    path.run_key,
    listagg(history.name, ' > ') within group (order by path.steps_from_end desc) as critical_path,
    count(*) as critical_path_nodes,
    sum(history.execution_time) as critical_path_seconds
from path
inner join {{ ref('audit_node_history') }} as history
    on
        path.run_key = history.run_key
        and path.unique_id = history.unique_id
group by path.run_key
