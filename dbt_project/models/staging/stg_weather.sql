select
    origin as airport_code,
    time_hour as observed_hour_at,
    temp as temperature_f,
    dewp as dew_point_f,
    humid as humidity_percent,
    wind_dir as wind_direction_degrees,
    -- One reading of 2013 says 1,048 miles an hour. No surface wind has ever been measured above 253 (Barrow Island, 1996).
    case when wind_speed <= 253 then wind_speed end as wind_speed_mph,
    wind_gust as wind_gust_mph,
    precip as precipitation_inches,
    pressure as pressure_millibars,
    visib as visibility_miles,
    loaded_at
from {{ source('landing', 'weather') }}
