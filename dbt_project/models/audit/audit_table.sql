-- Every result of every dbt invocation. The hook log_audit_table fills it; this model makes the table, adds columns that a
-- newer version of the project brings, and deletes what is older than audit_retention_days. It selects no rows itself.
{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        on_schema_change='append_new_columns',
        full_refresh=false,
        tags=['audit'],
        dist='even',
        sort='model_execution_date',
        post_hook=after_commit('{{ purge_audit_table() }}'),
    )
}}

select
    {%- for name, type, _ in audit_columns() %}
    cast(null as {{ type }}) as {{ name }}{{ "," if not loop.last }}
    {%- endfor %}
where false
