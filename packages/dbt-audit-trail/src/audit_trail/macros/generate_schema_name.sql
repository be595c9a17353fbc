{#
  Builds the audit trail in the target schema, where pipelines and the report look for it, even if the project sets `+schema` for
  the models of all packages. dbt uses this macro for the nodes of this package only.
#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- set schema = none if node.resource_type == 'model' else custom_schema_name -%}
    {#- The macro of the project can refuse the target schema. -#}
    {%- set project = context.get(project_name, {}) -%}
    {{ (project['generate_schema_name'] if 'generate_schema_name' in project else dbt.default__generate_schema_name)(schema, node) }}
{%- endmacro %}
