{{ config(materialized='table', tags=['overlay']) }}
select cast(one || 'x' as integer) as broken
from (select cast(1 as varchar(1)) as one) as numbers
