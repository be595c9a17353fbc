{{ config(tags=['overlay']) }}
{% if execute %}{{ exceptions.raise_compiler_error('€' * 350000) }}{% endif %}
select 1 as one
