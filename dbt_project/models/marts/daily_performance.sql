-- Whole days are replaced, the last look_back_days before the newest one included, because corrections arrive late.
{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key='flight_date',
        on_schema_change='append_new_columns',
        dist='carrier_code',
        sort='flight_date',
    )
}}

with counted as (
    select
        flight_date,
        carrier_code,
        origin_code,
        count(*) as scheduled_flights,
        sum(case when is_cancelled then 1 else 0 end) as cancelled_flights,
        sum(case when is_diverted then 1 else 0 end) as diverted_flights,
        sum(case when is_late then 1 else 0 end) as late_flights,
        avg(cast(departure_delay_minutes as double precision)) as average_departure_delay_minutes,
        avg(cast(arrival_delay_minutes as double precision)) as average_arrival_delay_minutes,
        max(arrival_delay_minutes) as longest_arrival_delay_minutes
    from {{ ref('departures') }}
    {% if is_incremental() %}
        where flight_date >= (select dateadd(day, -{{ var('look_back_days') }}, max(built.flight_date)) from {{ this }} as built)
    {% endif %}
    group by flight_date, carrier_code, origin_code
)

select
    {{ surrogate_key(['flight_date', 'carrier_code', 'origin_code']) }} as daily_performance_key,
    flight_date,
    carrier_code,
    origin_code,
    scheduled_flights,
    cancelled_flights,
    diverted_flights,
    scheduled_flights - cancelled_flights - diverted_flights as completed_flights,
    late_flights,
    1 - cast(late_flights as double precision)
    / nullif(scheduled_flights - cancelled_flights - diverted_flights, 0) as on_time_share,
    cast(cancelled_flights as double precision) / scheduled_flights as cancelled_share,
    average_departure_delay_minutes,
    average_arrival_delay_minutes,
    longest_arrival_delay_minutes
from counted
