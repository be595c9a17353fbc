{{ config(materialized='view', bind=false, tags=['audit_view']) }}
{%- do require_materialization('view') %}

-- The age of the data in each mart: when the mart was last built, and when the oldest source upstream of it was loaded, for
-- sources whose freshness `dbt source freshness` has checked.
--
-- Redshift allows no recursive query in a late-binding view. Instead each round doubles the number of steps that one join
-- goes upstream, so five rounds cover the 32 nearest layers.
with nodes as (
    select
        unique_id,
        name,
        resource_type,
        relation_name,
        owner,
        tags,
        outcome,
        last_passed_at,
        depends_on,
        source_max_loaded_at
    from {{ ref('audit_latest_state') }}
    where resource_type in ('model', 'seed', 'snapshot', 'source')
),

-- upstream_1: each node with itself and with the nodes that it reads.
upstream_1 as (
    select
        unique_id,
        unique_id as upstream_id
    from nodes
    union all
    select
        child.unique_id,
        parent.unique_id as upstream_id
    from nodes as child
    inner join nodes as parent on charindex('"' || parent.unique_id || '"', child.depends_on) > 0
),
{% for steps in [1, 2, 4, 8, 16] %}
    upstream_{{ 2 * steps }} as (
        select distinct
            near.unique_id,
            far.upstream_id
        from upstream_{{ steps }} as near
        inner join upstream_{{ steps }} as far on near.upstream_id = far.unique_id
    ),
{% endfor %}
sources as (
    select
        upstream_32.unique_id,
        min(nodes.source_max_loaded_at) as oldest_source_loaded_at
    from upstream_32
    inner join nodes on upstream_32.upstream_id = nodes.unique_id
    where nodes.resource_type = 'source'
    group by upstream_32.unique_id
)

select
    nodes.unique_id,
    nodes.name,
    nodes.relation_name,
    nodes.owner,
    nodes.outcome as last_outcome,
    nodes.last_passed_at as built_at,
    {{ audit_seconds_between('nodes.last_passed_at', 'getdate()') }} / 3600 as hours_since_built,
    sources.oldest_source_loaded_at,
    {{ audit_seconds_between('sources.oldest_source_loaded_at', 'getdate()') }} / 3600 as hours_since_source_loaded
from nodes
left join sources on nodes.unique_id = sources.unique_id
where
    nodes.resource_type = 'model'
    and charindex('"mart"', nodes.tags) > 0
