-- Every flight counts in exactly one row of daily_performance. Fails for each day on which the two counts differ.
with flown as (
    select
        flight_date,
        count(*) as flights
    from {{ ref('departures') }}
    group by flight_date
),

counted as (
    select
        flight_date,
        sum(scheduled_flights) as flights
    from {{ ref('daily_performance') }}
    group by flight_date
)

select
    flown.flight_date,
    flown.flights as expected,
    counted.flights as found
from flown
left join counted on flown.flight_date = counted.flight_date
where counted.flights is null or flown.flights <> counted.flights
