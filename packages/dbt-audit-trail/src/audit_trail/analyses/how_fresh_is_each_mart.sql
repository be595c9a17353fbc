select
    name,
    last_outcome,
    built_at,
    hours_since_built,
    oldest_source_loaded_at
from {{ ref('audit_mart_freshness') }}
order by built_at
