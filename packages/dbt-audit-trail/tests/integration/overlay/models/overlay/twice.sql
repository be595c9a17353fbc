{{ config(tags=['overlay']) }}
select 1 as one, 2 as two
union all
select 1 as one, 2 as two
