{{ config(dist='all', sort='carrier_code') }}

select
    cast(carrier_code as varchar(8)) as carrier_code,
    cast(carrier_name as varchar(128)) as carrier_name
from {{ ref('stg_airlines') }}
