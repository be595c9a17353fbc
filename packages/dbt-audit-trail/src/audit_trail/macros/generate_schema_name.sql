{#
  Builds the audit trail in the target schema, where pipelines and the report look for it, even if the project sets `+schema` for
  the models of all packages. dbt uses this macro for the nodes of this package only.
#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ target.schema if node.resource_type == 'model' else dbt.default__generate_schema_name(custom_schema_name, node) }}
{%- endmacro %}
