{{ config(materialized='view', bind=false, tags=['audit_view']) }}
{%- do require_materialization('view') %}

-- The chain of nodes that determined how long each run took: from the node that ended last, back along the dependency that
-- ended last, to a node that waited for no other node of the run.
--
-- Redshift allows no recursive query in a late-binding view. Instead each round doubles the number of steps that one join
-- goes back, so five rounds cover the last 32 nodes of a chain.
with history as (
    select
        run_key,
        unique_id,
        name,
        -- A list of ids as JSON, so each id is between two quotes.
        depends_on,
        least(coalesce(regexp_count(depends_on, '"') / 2, 0), 100) as parent_count,
        started_at,
        completed_at,
        execution_time
    from {{ ref('audit_node_history') }}
),

digits as (
    {% for digit in range(10) %}
        select {{ digit }} as digit{{ " union all" if not loop.last }}
    {% endfor %}
),

numbers as (
    select 10 * tens.digit + ones.digit + 1 as number
    from digits as tens
    cross join digits as ones
),

-- The places of 1 to 100 parents, with one row for each place, so that nodes join them by equality. Without distinct here
-- and in two other queries that are read once, PostgreSQL plans both in one, and joins all nodes of a run with each other.
places as (
    select distinct
        counts.number as parent_count,
        numbers.number as place
    from numbers as counts
    inner join numbers on counts.number >= numbers.number
),

parents as (
    select distinct
        history.run_key,
        history.unique_id,
        history.started_at,
        split_part(history.depends_on, '"', 2 * places.place) as parent_id
    from history
    inner join places on history.parent_count = places.parent_count
),

waits as (
    select
        parents.run_key,
        parents.unique_id,
        parents.parent_id as earlier_id,
        row_number() over (
            partition by parents.run_key, parents.unique_id
            order by parent.completed_at desc, parents.parent_id asc
        ) as place
    from parents
    inner join history as parent
        on
            parents.run_key = parent.run_key
            and parents.parent_id = parent.unique_id
            and parents.started_at >= parent.completed_at
),

ends as (
    select
        run_key,
        unique_id,
        row_number() over (partition by run_key order by completed_at desc, unique_id asc) as place
    from history
    where completed_at is not null
),

-- back_1: one step back from each node, to the node that it waited for.
back_1 as (
    select
        run_key,
        unique_id,
        earlier_id
    from waits
    where place = 1
),
{% for steps in [1, 2, 4, 8] %}
    back_{{ 2 * steps }} as (
        select{{ " distinct" if steps == 8 }}
            later.run_key,
            later.unique_id,
            earlier.earlier_id
        from back_{{ steps }} as later
        inner join back_{{ steps }} as earlier
            on
                later.run_key = earlier.run_key
                and later.earlier_id = earlier.unique_id
    ),
{% endfor %}
-- path_1: the last node of each chain.
path_1 as (
    select
        run_key,
        unique_id,
        0 as steps_from_end
    from ends
    where place = 1
),
{% for nodes in [1, 2, 4, 8, 16] %}
    path_{{ 2 * nodes }} as (
        select
            run_key,
            unique_id,
            steps_from_end
        from path_{{ nodes }}
        union all
        select
            back_{{ nodes }}.run_key,
            back_{{ nodes }}.earlier_id as unique_id,
            path_{{ nodes }}.steps_from_end + {{ nodes }} as steps_from_end
        from path_{{ nodes }}
        inner join back_{{ nodes }}
            on
                path_{{ nodes }}.run_key = back_{{ nodes }}.run_key
                and path_{{ nodes }}.unique_id = back_{{ nodes }}.unique_id
    ){{ "," if not loop.last }}
{% endfor %}
select
    path_32.run_key,
    listagg(history.name, ' > ') within group (order by path_32.steps_from_end desc) as critical_path,
    count(*) as critical_path_nodes,
    sum(history.execution_time) as critical_path_seconds
from path_32
inner join history
    on
        path_32.run_key = history.run_key
        and path_32.unique_id = history.unique_id
group by path_32.run_key
