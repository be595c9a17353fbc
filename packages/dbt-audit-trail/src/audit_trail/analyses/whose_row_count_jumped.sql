select
    name,
    last_rows_affected,
    last_rows_change
from {{ ref('audit_node_statistics') }}
where abs(last_rows_change) > 0.2 * (last_rows_affected - last_rows_change)
order by abs(last_rows_change) desc
