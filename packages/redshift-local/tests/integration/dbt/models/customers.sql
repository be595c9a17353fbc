select
    customer,
    count(*) as orders,
    cast(sum(amount) as decimal(38, 2)) as total,
    listagg(order_id, ', ') within group (order by order_id) as names
from {{ ref('late') }}
group by customer
