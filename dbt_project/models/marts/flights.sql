{{ config(dist='flight_key', sort=['flight_date', 'carrier_code']) }}

with departures as (
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
        -- The schedule gives the arrival as a clock time only. It is the first moment after departure at which clocks at the
        -- destination show it, because no flight takes a day.
        mod(
            scheduled_arrival_minute
            - cast(extract(hour from departure_at_destination) * 60 + extract(minute from departure_at_destination) as integer)
            + 1440,
            1440
        ) as scheduled_minutes
    from departures
)

select
    {{ surrogate_key(['carrier_code', 'flight_number', 'scheduled_departure_at']) }} as flight_key,
    flight_date,
    cast(carrier_code as varchar(8)) as carrier_code,
    flight_number,
    cast(tail_number as varchar(16)) as tail_number,
    cast(origin_code as varchar(8)) as origin_code,
    cast(destination_code as varchar(8)) as destination_code,
    departure_hour_at,
    scheduled_departure_at,
    departed_at,
    dateadd(minute, scheduled_minutes, scheduled_departure_at) as scheduled_arrival_at,
    dateadd(minute, scheduled_minutes + arrival_delay_minutes, scheduled_departure_at) as arrived_at,
    scheduled_minutes,
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
