-- The arrival, computed from schedule, delay and time zone, matches the clock time that the airline reported, which is not used
-- in the computation. Fails for each departure with another time.
with arrivals as (
    select
        departures.departure_key,
        departures.scheduled_arrival_at,
        departures.arrived_at,
        reported.arrival_minute as reported_minute,
        convert_timezone('UTC', airports.time_zone, departures.scheduled_arrival_at) as scheduled_locally_at,
        convert_timezone('UTC', airports.time_zone, departures.arrived_at) as arrived_locally_at
    from {{ ref('departures') }} as departures
    inner join {{ ref('airports') }} as airports on departures.destination_code = airports.airport_code
    inner join {{ ref('stg_flights') }} as reported
        on
            departures.carrier_code = reported.carrier_code
            and departures.flight_number = reported.flight_number
            and departures.scheduled_departure_at = reported.scheduled_departure_at
)

select *
from arrivals
where
    extract(hour from arrived_locally_at) * 60 + extract(minute from arrived_locally_at) <> reported_minute
    -- In the night when clocks change, airlines do not adjust the times of late planes.
    and datediff(minute, arrived_at, arrived_locally_at)
    = datediff(minute, scheduled_arrival_at, scheduled_locally_at)
