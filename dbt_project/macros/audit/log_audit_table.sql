{#
  The on-run-end hook: one row in audit_table for each result of this invocation, or an error that fails the invocation.
  The word that it leaves in dbt's log tells dags/mwaa_pipelines/recovery.py that there is nothing to recover.
#}
{% macro log_audit_table(results) %}
    {#- Outside `execute`, because dbt notes while parsing what a hook refers to. -#}
    {%- set table = ref('audit_table') -%}
    {%- if execute and results and is_audited() -%}
        {%- if insert_audit_rows(table, results, audit_run()) -%}
            {%- do log('audit_recorded') -%}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}


{# The on-run-start hook: leaves in dbt's log what all rows will share, in case this invocation does not live to write them. #}
{% macro begin_audit() %}
    {%- if execute and is_audited() -%}
        {%- do log('audit_run ' ~ tojson(audit_run())) -%}
    {%- endif -%}
{% endmacro %}


{# `compile`, `docs generate` and their like run the hooks as well, and have nothing to record. #}
{% macro is_audited() %}
    {%- set recorded = ['build', 'run', 'test', 'seed', 'snapshot', 'freshness', 'clone', 'retry'] -%}
    {%- do return(flags.WHICH in recorded and var('audit_enabled')) -%}
{% endmacro %}


{#
  Appends one row to `table` for each of `results`, with three statements: which columns the table has, one INSERT, a commit.

  Nothing is lost silently: an INSERT inside a transaction that an earlier statement left open would be rolled back when dbt
  closes the connection, hence the commit, which outside a transaction does nothing. Every value is bound, so none becomes SQL.
  Rows travel as lines of text, because dbt-redshift takes each statement apart word by word before it sends it: a VALUES list
  of 5,000 rows takes seconds, this statement is as short for 5,000 rows as for one.

  Returns whether they were written: no, if the table is not there for this user and the var audit_failure says `warn`.
#}
{% macro insert_audit_rows(table, results, run) %}
    {%- set found = audit_table_columns(table) -%}
    {%- if not found -%}
        {%- set problem = "The audit table " ~ table ~ " does not exist, or user " ~ target.user ~ " may not write to it, so "
            ~ (results | length) ~ " results were not recorded. Create it with: dbt run --select tag:audit. "
            ~ "To run without an audit trail: --vars 'audit_enabled: false'." -%}
        {%- if var('audit_failure') == 'warn' -%}
            {%- do exceptions.warn(problem) -%}
            {%- do return(false) -%}
        {%- endif -%}
        {%- do exceptions.raise_compiler_error(problem) -%}
    {%- endif -%}

    {%- set names, selected, shared_values, widths, missing = [], [], [], {}, [] -%}
    {%- for name, type, _ in audit_columns()[0] -%}
        {%- if name not in found -%}
            {%- do missing.append(name) -%}
        {%- elif name not in run -%}
            {%- do widths.update({name: found[name]}) -%}
            {%- do names.append(name) -%}
            {%- do selected.append(unpack_audit_cell(widths | length, type)) -%}
        {%- elif run[name] is not none -%}
            {%- do names.append(name) -%}
            {%- do selected.append('cast(%s as ' ~ type ~ ')') -%}
            {%- do shared_values.append(cut_audit_text(run[name] | string, found[name] or 65535)) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if missing -%}
        {%- do exceptions.warn(
            table ~ " is older than this project: " ~ missing | join(', ') ~ " not recorded. Add the columns with: dbt run --select tag:audit"
        ) -%}
    {%- endif -%}

    {#- A value of 65,535 bytes is the longest that Redshift has; 200 of them stay below its 16 MB for one statement. -#}
    {%- for packages in pack_audit_lines(parse_dbt_results(results, run, widths)) | batch(200) -%}
        {#- `distinct`, so that each line is cut out of its package once and not again for each of its cells. -#}
        {%- set insert -%}
            insert into {{ table }} ({{ names | join(', ') }})
            select {{ selected | join(', ') }}
            from (
                select distinct split_part(package, chr(30), tens.digit * 10 + ones.digit + 1) as line
                from ({{ (['select cast(%s as varchar(65535)) as package'] * packages | length) | join(' union all ') }}) as packages
                cross join ({{ audit_digits() }}) as tens
                cross join ({{ audit_digits() }}) as ones
            ) as lines
            where line <> ''
        {%- endset -%}
        {%- do adapter.add_query(insert, auto_begin=false, bindings=shared_values + packages, abridge_sql_log=true) -%}
    {%- endfor -%}
    {%- do adapter.add_query('commit', auto_begin=false) -%}
    {%- do return(true) -%}
{% endmacro %}


{# Lines joined by the record separator (character 30), as many as fit into 65,535 bytes, 100 at most. #}
{% macro pack_audit_lines(lines) %}
    {%- set package = lines | join('\x1e') -%}
    {%- if lines | length == 1 or (lines | length <= 100 and package.encode('utf-8') | length <= 65535) -%}
        {%- do return([package]) -%}
    {%- endif -%}
    {%- set half = lines | length // 2 -%}
    {%- do return(pack_audit_lines(lines[:half]) + pack_audit_lines(lines[half:])) -%}
{% endmacro %}


{% macro audit_digits() -%}
    select 0 as digit{% for digit in range(1, 10) %} union all select {{ digit }}{% endfor %}
{%- endmacro %}


{#
  {name: width in bytes, or none} of the columns that a table really has; empty if it does not exist, or if this user may not
  insert into it.
#}
{% macro audit_table_columns(table) %}
    {%- set query -%}
        select
            column_name,
            character_maximum_length,
            has_table_privilege('"' || table_schema || '"."' || table_name || '"', 'insert')
        from information_schema.columns
        where lower(table_schema) = %s and lower(table_name) = %s
    {%- endset -%}
    {%- set _, cursor = adapter.add_query(
        query, auto_begin=false, bindings=[table.schema | lower, table.identifier | lower]
    ) -%}
    {%- set columns = {} -%}
    {%- for name, width, is_writable in cursor.fetchall() if is_writable -%}
        {%- do columns.update({name: width}) -%}
    {%- endfor -%}
    {%- do return(columns) -%}
{% endmacro %}
