{#
  The on-run-end hook: one row in audit_table for each result of this invocation, or an error that fails the invocation.
#}
{% macro log_audit_table(results) %}
    {#- Outside `execute`, because dbt notes while parsing what a hook refers to. -#}
    {%- set table = ref('audit_table') -%}
    {#- `compile`, `docs generate` and their like run this hook as well, and have nothing to record. -#}
    {%- set recorded = ['build', 'run', 'test', 'seed', 'snapshot', 'freshness', 'clone', 'retry'] -%}
    {%- if execute and results and flags.WHICH in recorded and var('audit_enabled') -%}
        {%- do insert_audit_rows(table, results) -%}
    {%- endif -%}
{% endmacro %}


{#
  Appends one row to `table` for each of `results`, with three statements: which columns the table has, one INSERT, a commit.

  Nothing is lost silently: an INSERT inside a transaction that an earlier statement left open would be rolled back when dbt
  closes the connection, hence the commit, which outside a transaction does nothing. Every value is bound, so none becomes SQL.
  Rows travel as lines of text, because dbt-redshift takes each statement apart word by word before it sends it: a VALUES list
  of 5,000 rows takes seconds, this statement is as short for 5,000 rows as for one.
#}
{% macro insert_audit_rows(table, results) %}
    {%- set found = audit_table_columns(table) -%}
    {%- if not found -%}
        {{ exceptions.raise_compiler_error(
            "The audit table " ~ table ~ " does not exist, or user " ~ target.user ~ " may not see it, so " ~ (results | length)
            ~ " results were not recorded. Create it with: dbt run --select tag:audit. "
            ~ "To run without an audit trail: --vars 'audit_enabled: false'."
        ) }}
    {%- endif -%}

    {%- set run = audit_run() -%}
    {%- set names, selected, shared_values, widths, missing = [], [], [], {}, [] -%}
    {%- for name, type, value in audit_columns(none, run) if name in found and value is defined and value is not none -%}
        {%- do names.append(name) -%}
        {%- do selected.append('cast(%s as ' ~ type ~ ')') -%}
        {%- do shared_values.append(cut_audit_text(value | string, found[name]) if found[name] is not none else value | string) -%}
    {%- endfor -%}
    {%- for name, type, _ in audit_columns() if name not in names -%}
        {%- if name in found -%}
            {%- do widths.update({name: found[name]}) -%}
            {%- do names.append(name) -%}
            {%- do selected.append(unpack_audit_cell(widths | length, type)) -%}
        {%- else -%}
            {%- do missing.append(name) -%}
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
{% endmacro %}


{# Lines joined by the record separator (character 30), as many as fit into 65,535 bytes, 100 at most. #}
{% macro pack_audit_lines(lines) %}
    {%- set packages, open, size = [], [], [] -%}
    {%- for line in lines -%}
        {%- set bytes = line.encode('utf-8') | length + 1 -%}
        {%- if open and (open | length == 100 or size | sum + bytes > 65535) -%}
            {%- do packages.append(open | join('\x1e')) -%}
            {%- do open.clear() -%}
            {%- do size.clear() -%}
        {%- endif -%}
        {%- do open.append(line) -%}
        {%- do size.append(bytes) -%}
    {%- endfor -%}
    {%- do return(packages + [open | join('\x1e')]) -%}
{% endmacro %}


{% macro audit_digits() -%}
    select 0 as digit{% for digit in range(1, 10) %} union all select {{ digit }}{% endfor %}
{%- endmacro %}


{# {name: width in bytes, or none} of the columns that a table really has; empty if it does not exist or may not be seen. #}
{% macro audit_table_columns(table) %}
    {%- set _, cursor = adapter.add_query(
        'select column_name, character_maximum_length from information_schema.columns'
        ~ ' where lower(table_schema) = %s and lower(table_name) = %s',
        auto_begin=false, bindings=[table.schema | lower, table.identifier | lower]
    ) -%}
    {%- set columns = {} -%}
    {%- for name, width in cursor.fetchall() -%}
        {%- do columns.update({name: width}) -%}
    {%- endfor -%}
    {%- do return(columns) -%}
{% endmacro %}
