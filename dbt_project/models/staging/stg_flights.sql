select
    carrier as carrier_code,
    flight as flight_number,
    origin as origin_code,
    dest as destination_code,
    tailnum as tail_number,
    to_date(cast(year * 10000 + month * 100 + day as varchar), 'YYYYMMDD') as flight_date,
    time_hour as departure_hour_at,
    dateadd(minute, flights.minute, time_hour) as scheduled_departure_at,
    -- The delay says on which day a late plane really left; the clock time dep_time does not.
    dateadd(minute, flights.minute + dep_delay, time_hour) as departed_at,
    {{ minutes_after_midnight('sched_arr_time') }} as scheduled_arrival_minute,
    {{ minutes_after_midnight('dep_time') }} as departure_minute,
    {{ minutes_after_midnight('arr_time') }} as arrival_minute,
    dep_delay as departure_delay_minutes,
    arr_delay as arrival_delay_minutes,
    air_time as air_time_minutes,
    distance as distance_miles,
    dep_time is null as is_cancelled,
    dep_time is not null and arr_delay is null as is_diverted,
    loaded_at
from {{ source('landing', 'flights') }} as flights
