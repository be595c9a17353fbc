{#
  Where a node is built. Target `prod` builds in its own schema, or exactly in the custom schema that a node names.
  Every other target (a developer, CI) builds in schemas that begin with its own, and never in the production schema.
#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- set custom = custom_schema_name | trim if custom_schema_name else none -%}
    {%- if target.name == 'prod' -%}
        {{ custom or target.schema }}
    {%- else -%}
        {%- set schema = target.schema ~ '_' ~ custom if custom else target.schema -%}
        {%- set production = var('prod_schema') | lower -%}
        {%- if production in (target.schema | lower, schema | lower) -%}
            {{ exceptions.raise_compiler_error(
                "Target '" ~ target.name ~ "' would build in '" ~ production ~ "', the production schema (var prod_schema). "
                ~ "Give the target a schema of its own, for example REDSHIFT_SCHEMA=dbt_<your name>; only target 'prod' builds there."
            ) }}
        {%- endif -%}
        {{ schema }}
    {%- endif -%}
{%- endmacro %}
