select order_id, days from {{ ref('appended') }}
