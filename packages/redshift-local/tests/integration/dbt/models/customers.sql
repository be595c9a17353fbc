select
    customer,
    count(*) as orders,
    cast(sum(amount) as decimal(38, 2)) as total,
    min(order_id) as first_order
from {{ ref('late') }}
group by customer
