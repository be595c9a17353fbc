{{ config(dist='all', sort='airport_code') }}

with every_airport as (
    select
        airport_code,
        airport_name,
        latitude,
        longitude,
        altitude_feet,
        time_zone,
        false as is_in_territory
    from {{ ref('stg_airports') }}

    union all

    select
        airport_code,
        airport_name,
        latitude,
        longitude,
        altitude_feet,
        time_zone,
        true as is_in_territory
    from {{ ref('territory_airports') }}
    -- If the source also lists one of these airports, use the source's row.
    where airport_code not in (select source.airport_code from {{ ref('stg_airports') }} as source)
)

select
    cast(airport_code as varchar(8)) as airport_code,
    cast(airport_name as varchar(128)) as airport_name,
    cast(latitude as double precision) as latitude,
    cast(longitude as double precision) as longitude,
    cast(altitude_feet as integer) as altitude_feet,
    cast(time_zone as varchar(64)) as time_zone,
    is_in_territory
from every_airport
