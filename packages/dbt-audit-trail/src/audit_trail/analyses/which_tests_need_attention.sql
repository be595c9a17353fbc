select
    name,
    health,
    last_failures,
    last_passed_at
from {{ ref('audit_test_health') }}
where health <> 'healthy'
order by health, name
