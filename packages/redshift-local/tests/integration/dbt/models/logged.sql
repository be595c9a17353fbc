select order_id from {{ ref('late') }}
