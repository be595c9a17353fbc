{#
  One 32-character key of several columns. The separator and the word for null keep ('a', null), ('', 'a') and ('a', '') apart.
#}
{% macro surrogate_key(columns) -%}
    md5(
        {%- for column in columns %}
        coalesce(cast({{ column }} as varchar), '<null>'){{ " || '|' ||" if not loop.last }}
        {%- endfor %}
    )
{%- endmacro %}
