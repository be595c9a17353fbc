{{ config(tags=['overlay']) }}
{% if execute %}{{ exceptions.raise_compiler_error(nasty_text()) }}{% endif %}
select 1 as one
