{#
  Stops the build of an audit model whose materialization the project has changed. Settings directly under `models:` in the
  project's dbt_project.yml also reach packages and override them. As a table, audit_table would lose its rows with every build.
#}
{% macro require_materialization(required) %}
    {%- if execute -%}
        {%- set config = model['config'] -%}
        {%- if config['materialized'] != required or (required == 'incremental' and config['full_refresh'] is not false) -%}
            {%- do exceptions.raise_compiler_error(
                "dbt_project.yml sets materialized: " ~ config['materialized'] ~ ", full_refresh: " ~ config['full_refresh']
                ~ " for all models. For " ~ model['name'] ~ " that would lose audit rows or show old ones. "
                ~ "Indent the setting under the name of your project, or add below models: "
                ~ "{audit_trail: {+materialized: view, audit_table: {+materialized: incremental, +full_refresh: false}}}"
            ) -%}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}
