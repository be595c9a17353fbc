-- Sample source landing.flights: every flight out of New York's three airports in 2013.
-- A second load replaces the rows in one transaction, so readers see the old rows until it commits.
--
--   psql --single-transaction -v source_url=s3://…/nycflights13/flights/ -v source_region=us-east-1 \
--     -v iam_role=default -f flights.sql

create schema if not exists landing;

create table if not exists landing.flights (
    year integer,
    month integer,
    day integer,
    dep_time integer,
    sched_dep_time integer,
    dep_delay integer,
    arr_time integer,
    sched_arr_time integer,
    arr_delay integer,
    carrier varchar(2),
    flight integer,
    tailnum varchar(6),
    origin varchar(3),
    dest varchar(3),
    air_time integer,
    distance integer,
    hour integer,
    minute integer,
    time_hour timestamp,
    loaded_at timestamp default getdate()
);

-- truncate would commit on its own.
-- https://docs.aws.amazon.com/redshift/latest/dg/r_TRUNCATE.html
delete from landing.flights;

copy landing.flights (
    year,
    month,
    day,
    dep_time,
    sched_dep_time,
    dep_delay,
    arr_time,
    sched_arr_time,
    arr_delay,
    carrier,
    flight,
    tailnum,
    origin,
    dest,
    air_time,
    distance,
    hour,
    minute,
    time_hour
)
from :'source_url'
iam_role :iam_role
region :'source_region'
csv gzip ignoreheader 1 null as 'NA' timeformat 'auto';
