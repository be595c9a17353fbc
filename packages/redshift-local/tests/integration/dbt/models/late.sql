select order_id, customer, amount, ordered_at, nvl(note, 'none') as note
from {{ ref('orders') }}
