select
    customer,
    count(*) as orders,
    sum(amount) as total,
    listagg(order_id, ', ') within group (order by order_id) as names
from {{ ref('late') }}
group by customer
