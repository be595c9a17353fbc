{{ config(materialized='view', bind=false, tags=['audit_view']) }}

-- How old the data in each mart is: when it was built last, and when the oldest source behind it was loaded, as far as
-- `dbt source freshness` has been run.
with recursive behind (mart_id, unique_id, distance) as (
    select
        unique_id as mart_id,
        unique_id,
        0 as distance
    from {{ ref('audit_latest_state') }}
    where
        resource_type = 'model'
        and charindex('"mart"', tags) > 0

    union all

    select
        behind.mart_id,
        parent.unique_id,
        behind.distance + 1 as distance
    from behind
    inner join {{ ref('audit_latest_state') }} as child on behind.unique_id = child.unique_id
    inner join {{ ref('audit_latest_state') }} as parent on charindex('"' || parent.unique_id || '"', child.depends_on) > 0
    -- A renamed model can leave a circle in the history.
    where behind.distance < 30
),

sources as (
    select
        behind.mart_id,
        min(source.source_max_loaded_at) as oldest_source_loaded_at
    from behind
    inner join {{ ref('audit_latest_state') }} as source on behind.unique_id = source.unique_id
    where source.resource_type = 'source'
    group by behind.mart_id
)

select
    mart.unique_id,
    mart.name,
    mart.relation_name,
    mart.owner,
    mart.outcome as last_outcome,
    mart.last_passed_at as built_at,
    {{ audit_seconds_between('mart.last_passed_at', 'getdate()') }} / 3600 as hours_since_built,
    sources.oldest_source_loaded_at,
    {{ audit_seconds_between('sources.oldest_source_loaded_at', 'getdate()') }} / 3600 as hours_since_source_loaded
from {{ ref('audit_latest_state') }} as mart
left join sources on mart.unique_id = sources.mart_id
where
    mart.resource_type = 'model'
    and charindex('"mart"', mart.tags) > 0
