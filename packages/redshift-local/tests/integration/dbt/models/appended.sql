select order_id, datediff(day, '2024-01-01', ordered_at) as days, len(note) as size
from {{ ref('late') }}
{% if is_incremental() %} where ordered_at >= (select dateadd(day, -3, max(ordered_at)) from {{ ref('late') }}) {% endif %}
