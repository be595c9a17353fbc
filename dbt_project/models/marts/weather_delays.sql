{{ config(dist='even', sort='departure_hour_at') }}

with hours as (
    select
        origin_code,
        departure_hour_at,
        count(*) as scheduled_flights,
        sum(case when is_cancelled then 1 else 0 end) as cancelled_flights,
        sum(case when is_late then 1 else 0 end) as late_flights,
        avg(cast(departure_delay_minutes as double precision)) as average_departure_delay_minutes
    from {{ ref('departures') }}
    group by origin_code, departure_hour_at
)

select
    {{ surrogate_key(['hours.origin_code', 'hours.departure_hour_at']) }} as weather_delay_key,
    hours.origin_code,
    hours.departure_hour_at,
    hours.scheduled_flights,
    hours.cancelled_flights,
    hours.late_flights,
    hours.average_departure_delay_minutes,
    weather.temperature_f,
    weather.wind_speed_mph,
    weather.wind_gust_mph,
    weather.precipitation_inches,
    weather.visibility_miles,
    -- The first condition that applies, from the strongest effect on an airport to the weakest.
    cast(
        case
            when weather.observed_hour_at is null then 'not observed'
            when weather.visibility_miles < 1 then 'low visibility'
            when weather.wind_speed_mph >= 25 or weather.wind_gust_mph >= 35 then 'windy'
            when weather.precipitation_inches > 0 and weather.temperature_f <= 32 then 'freezing'
            when weather.precipitation_inches > 0 then 'wet'
            else 'fair'
        end as varchar(16)
    ) as conditions
from hours
left join {{ ref('stg_weather') }} as weather
    on
        hours.origin_code = weather.airport_code
        and hours.departure_hour_at = weather.observed_hour_at
