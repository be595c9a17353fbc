select
    tailnum as tail_number,
    year as manufactured_year,
    type as plane_type,
    manufacturer,
    model,
    engines as engine_count,
    engine as engine_type,
    seats as seat_count,
    speed as cruising_speed_mph,
    loaded_at
from {{ source('landing', 'planes') }}
