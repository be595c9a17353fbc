{{ config(materialized='table', tags=['overlay']) }}
select * from {{ ref('fails') }}
