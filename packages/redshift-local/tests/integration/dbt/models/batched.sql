select order_id, ordered_at from {{ ref('late') }}
