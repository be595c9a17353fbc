{{ config(materialized='table', tags=['overlay', "it's"]) }}
select 1 as one
