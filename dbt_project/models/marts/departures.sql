{{ config(dist='departure_key', sort=['flight_date', 'carrier_code']) }}

with located as (
    select
        stg_flights.*,
        airports.time_zone,
        convert_timezone('UTC', airports.time_zone, stg_flights.scheduled_departure_at) as departure_at_destination
    from {{ ref('stg_flights') }} as stg_flights
    left join {{ ref('airports') }} as airports
        on stg_flights.destination_code = airports.airport_code
),

timed as (
    select
        *,
        -- The schedule has only the clock time of the arrival. The arrival is the first moment after departure when clocks at the
        -- destination show this time, because no flight takes a day. Computing in the destination's time zone is also correct
        -- in nights when the clocks change.
        convert_timezone(
            time_zone,
            'UTC',
            dateadd(
                minute,
                mod(
                    scheduled_arrival_minute
                    - cast(extract(hour from departure_at_destination) as integer) * 60
                    - cast(extract(minute from departure_at_destination) as integer)
                    + 1440,
                    1440
                ),
                departure_at_destination
            )
        ) as scheduled_arrival_at
    from located
)

select
    {{ surrogate_key(['carrier_code', 'flight_number', 'scheduled_departure_at']) }} as departure_key,
    flight_date,
    cast(carrier_code as varchar(8)) as carrier_code,
    flight_number,
    cast(tail_number as varchar(16)) as tail_number,
    cast(origin_code as varchar(8)) as origin_code,
    cast(destination_code as varchar(8)) as destination_code,
    departure_hour_at,
    scheduled_departure_at,
    departed_at,
    scheduled_arrival_at,
    dateadd(minute, arrival_delay_minutes, scheduled_arrival_at) as arrived_at,
    departure_delay_minutes,
    arrival_delay_minutes,
    departure_delay_minutes - arrival_delay_minutes as made_up_minutes,
    air_time_minutes,
    distance_miles,
    cast(distance_miles as double precision) / nullif(air_time_minutes, 0) * 60 as speed_mph,
    is_cancelled,
    is_diverted,
    arrival_delay_minutes >= {{ var('late_minutes') }} as is_late
from timed
