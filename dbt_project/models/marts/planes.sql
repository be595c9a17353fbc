{{ config(dist='all', sort='tail_number') }}

select
    cast(tail_number as varchar(16)) as tail_number,
    manufactured_year,
    cast(plane_type as varchar(64)) as plane_type,
    cast(manufacturer as varchar(64)) as manufacturer,
    cast(model as varchar(64)) as model,
    engine_count,
    cast(engine_type as varchar(64)) as engine_type,
    seat_count
from {{ ref('stg_planes') }}
