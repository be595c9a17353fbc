{#
  One line of text for each result: the values of `columns`, in audit_columns()' order, each ended by the unit separator
  (character 31). Nothing is written None. What a text must not hold is written as escape (27) and a digit;
  unpack_audit_cell() undoes it in SQL.

  results: `results` of on-run-end.
  run: from audit_run().
  columns: {name: width in bytes, or none where the type has no width}.
#}
{% macro parse_dbt_results(results, run, columns) %}
    {#- A format takes all values of a row at once; `%.0s` shows the first 0 characters of one, which is how it leaves it out. -#}
    {%- set cells, patterns = [], [] -%}
    {%- for name, _, _ in audit_columns()[0] -%}
        {%- do cells.append('%s\x1f' if name in columns else '%.0s') -%}
        {%- if name in columns -%}
            {%- set length = '*' if columns[name] is none else '{0,' ~ columns[name] ~ '}' -%}
            {%- do patterns.append('(?!None +\x1f)[\x01-\x1a\x1c\x1d\x20-\x7f]' ~ length ~ '\x1f') -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set format = cells | join -%}
    {#- Nearly every text is plain: short enough, ASCII, without separators and NUL. Only the others need the slow way. -#}
    {%- set is_plain = modules.re.compile(patterns | join).fullmatch -%}
    {%- set lines = [] -%}
    {%- set add = lines.append -%}
    {%- for row in audit_columns(results, run) -%}
        {%- set values = (zip(*row) | list)[2] -%}
        {%- set line = format % values -%}
        {%- do add(line if 'None' not in values and is_plain(line) else escape_audit_cells(row, columns)) -%}
    {%- endfor -%}
    {%- do return(lines) -%}
{% endmacro %}


{# What parse_dbt_results() does, for one row whose texts may be anything. #}
{% macro escape_audit_cells(row, columns) %}
    {%- set cells = [] -%}
    {%- for name, _, value in row if name in columns -%}
        {%- if value is none or columns[name] is none -%}
            {%- do cells.append(value | string) -%}
        {%- else -%}
            {%- set text = cut_audit_text(value | string, columns[name], name == 'load_id') -%}
            {%- set text = text.replace('\x1b', '\x1b0').replace('\x1e', '\x1b1').replace('\x1f', '\x1b2') -%}
            {#- Redshift ignores trailing spaces when it compares. -#}
            {%- do cells.append(text ~ '\x1b3' if text.rstrip(' ') == 'None' else text) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do return(cells | join('\x1f') ~ '\x1f') -%}
{% endmacro %}


{# The SQL that reads cell number `position` of `line`, as parse_dbt_results() wrote it. #}
{% macro unpack_audit_cell(position, type) -%}
    {%- set cell = "nullif(split_part(line, chr(31), " ~ position ~ "), 'None')" -%}
    {%- if type.startswith('varchar') -%}
        {%- set pieces = [cell] -%}
        {%- for digit, character in (('3', "''"), ('2', 'chr(31)'), ('1', 'chr(30)'), ('0', 'chr(27)')) -%}
            {%- do pieces.append('replace(' ~ pieces.pop() ~ ", chr(27) || '" ~ digit ~ "', " ~ character ~ ')') -%}
        {%- endfor -%}
        {{ pieces[0] }}
    {%- elif type == 'boolean' -%}
        case {{ cell }} when 'True' then true when 'False' then false end
    {%- else -%}
        cast({{ cell }} as {{ type }})
    {%- endif -%}
{%- endmacro %}


{#
  Text as Redshift can store it in `width` bytes: without NUL, and cut between characters, never inside one.
  A key stays unique when it is cut: it ends with a hash of the whole.
#}
{% macro cut_audit_text(text, width, is_key=false) %}
    {%- set stored = text.replace('\x00', '').encode('utf-8', 'replace') -%}
    {%- if stored | length > width -%}
        {%- set ending = ('.' ~ local_md5(text)).encode() if is_key else ''.encode() -%}
        {%- set stored = stored[:width - ending | length].decode('utf-8', 'ignore').encode() + ending -%}
    {%- endif -%}
    {%- do return(stored.decode()) -%}
{% endmacro %}
