select
    carrier as carrier_code,
    name as carrier_name,
    loaded_at
from {{ source('landing', 'airlines') }}
