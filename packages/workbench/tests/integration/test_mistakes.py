"""Mistakes in a dbt project: each message has the file, the line and the cure."""

import contextlib
import io
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from mwaa_local.settings import Settings
from workbench import commands
from workbench.problems import ProjectError
from workbench.terminal import show_problem
from workbench.warehouse import drop_schemas

MODEL = "models/marts/dear_items.sql"
# Without a contract.
STAGING = "models/staging"


@dataclass(frozen=True)
class Mistake:
    """Files that replace or extend those of the project, and the expected lines of the output."""

    files: Mapping[str, str]
    lines: tuple[str, ...]


# dbt cannot parse the project, so each needs a command of its own.
UNPARSED = {
    "unclosed Jinja": Mistake(
        {MODEL: "select 1\nfrom {{ ref('items' }}"}, (f"{MODEL}:2: unexpected '}}', expected ')'",)
    ),
    "misspelled ref": Mistake(
        {MODEL: "select 1\nfrom {{ ref('itmes') }}"},
        (
            f"{MODEL}:2: ref('itmes') does not match a model\n    from {{{{ ref('itmes') }}}}\n                 ^\n",
            "→ did you mean items?",
        ),
    ),
    "unknown source": Mistake(
        {MODEL: "select 1\nfrom {{ source('shop', 'x') }}"},
        (
            f"{MODEL}:2: source shop.x is not declared",
            "→ declare it in models/staging/sources.yml, or correct the name",
        ),
    ),
    "model of the same name": Mistake(
        {"models/staging/items.sql": "select 1 as a"},
        (
            "items exists twice: models/marts/items.sql, models/staging/items.sql",
            "→ rename or remove one of them",
        ),
    ),
    "space in a name": Mistake(
        {"models/marts/Dear Ones.sql": "select 1 as a"},
        ("models/marts/Dear Ones.sql: 'Dear Ones' has a space in its name", "→ rename it: dear_ones"),
    ),
    "invalid YAML": Mistake(
        {"models/marts/items.yml": "models:\n  - name: a\n   description: x\n"},
        ("models/marts/items.yml:3: ", "→ "),
    ),
    "invalid project file": Mistake(
        {"dbt_project.yml": "name: shop\nprofile: shop\n  version: '1.0'\n"}, ("dbt_project.yml:3: ", "→ ")
    ),
    "text in place of a list": Mistake(
        {
            f"{STAGING}/stg_sales.yml": (
                "models:\n  - name: stg_sales\n    columns:\n      - {name: item, data_tests: unique}\n"
            )
        },
        (
            f"{STAGING}/stg_sales.yml:4: columns.data_tests: 'unique' is not a list\n"
            "          - {name: item, data_tests: unique}\n                         ^\n",
            "→ begin each entry with -",
        ),
    ),
    "unknown key": Mistake(
        {"models/sources.yml": "sources:\n  - name: till\n    table: [{name: sold}]\n"},
        ("models/sources.yml:3: 'table' is not a key here\n        table: [{name: sold}]\n", "→ did you mean tables"),
    ),
    "wrong period of freshness": Mistake(
        {
            "models/sources.yml": (
                "sources:\n  - name: till\n    tables: [{name: sold}]\n    config:\n      loaded_at_field: at\n"
                "      freshness:\n        warn_after: {count: 2, period: hours}\n"
            )
        },
        ("models/sources.yml:7: warn_after has an invalid value: ", "→ a period is minute, hour or day"),
    ),
    "wrong value in the project file": Mistake(
        {"dbt_project.yml": "name: shop\nprofile: shop\nmodels:\n  shop:\n    +enabled: maybe\n"},
        ("dbt_project.yml:5: enabled: 'maybe' is not true or false\n        +enabled: maybe\n",),
    ),
    "two YAML entries of a model": Mistake(
        {f"{STAGING}/again.yml": "models:\n  - name: stg_sales\n"},
        (f"stg_sales is described twice: {STAGING}/again.yml, {STAGING}/stg_sales.yml", "→ remove one of the entries"),
    ),
    "ref without quotes": Mistake(
        {MODEL: "select 1 as a from {{ ref('items') }}\nunion all select 1 from {{ ref(items) }}"},
        (f"{MODEL}:2: the name in ref() has no quotes\n", "→ write ref('<model>')"),
    ),
    "unit test of an unknown model": Mistake(
        {f"{STAGING}/u.yml": "unit_tests:\n  - name: u\n    model: itmes\n    given: []\n    expect: {rows: []}\n"},
        (f"{STAGING}/u.yml:3: unit test u: there is no model 'itmes'\n        model: itmes\n", "→ did you mean items?"),
    ),
    "unclosed Jinja in a macro": Mistake(
        {"macros/m.sql": "{% macro m(a) %}\n{{ a }\n{% endmacro %}"}, ("macros/m.sql:2: }} is missing\n    {{ a }\n",)
    ),
    "file that is not UTF-8": Mistake(
        {"seeds/names.csv": "name\nM\udcfcller\n"}, ("seeds/names.csv:2: is not UTF-8", "→ save the file as UTF-8")
    ),
    "circle": Mistake(
        {MODEL: "select 1\nfrom {{ ref('items') }}", "models/marts/items.sql": "select 1 from {{ ref('dear_items') }}"},
        ("models read each other in a circle", "→ remove one of these ref() calls"),
    ),
}


@pytest.mark.parametrize("mistake", UNPARSED.values(), ids=UNPARSED)
def test_project_that_dbt_cannot_parse(settings: Settings, folder: Path, capsys, mistake: Mistake):
    for file, text in mistake.files.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ProjectError) as raised:
        commands.build(settings, "dear_items", folder)
    show_problem(raised.value.problem)
    output = capsys.readouterr().out
    for line in mistake.lines:
        assert line in output


# One command builds all of them.
BUILT = {
    "column that another SELECT has as an alias": Mistake(
        {
            f"{STAGING}/b1.sql": (
                "with paid as (\n    select item, amount as amuont\n    from {{ ref('stg_sales') }}\n)\n\n"
                "select\n    item,\n    amuont as amount\n"
                "from {{ ref('stg_sales') }}\nwhere item in (select item from paid)\n"
            )
        },
        (
            f'{STAGING}/b1.sql:8: column "amuont" does not exist\n        amuont as amount\n        ^\n',
            "→ did you mean amount",
        ),
    ),
    "qualified column": Mistake(
        {
            f"{STAGING}/b2.sql": (
                "-- items.amuont\nwith paid as (select item, amount as amuont from {{ ref('stg_sales') }})\n"
                "select paid.item,\n\t items.amuont as amount\n"
                "from paid inner join {{ ref('stg_sales') }} as items on true\n"
            )
        },
        (f"{STAGING}/b2.sql:4: column", "\n         items.amuont as amount\n         ^\n"),
    ),
    "column after a macro of several lines": Mistake(
        {
            "macros/many.sql": "{% macro many() %}\n1 as one,\n2 as two,\n3 as three\n{% endmacro %}",
            f"{STAGING}/b3.sql": "select\n    {{ many() }},\n    amuont\nfrom {{ ref('stg_sales') }}\n",
        },
        (f'{STAGING}/b3.sql:3: column "amuont" does not exist\n        amuont\n        ^\n',),
    ),
    "contract": Mistake(
        {
            "models/marts/b4.sql": (
                "select\n    item,\n    cast(amount as varchar) as amount,\n    1 as extra\nfrom {{ ref('items') }}\n"
                "where amount > 0\n"
            ),
            "models/marts/b4.yml": (
                "models:\n  - name: b4\n    columns:\n      - {name: item, data_type: varchar}\n"
                "      - {name: amount, data_type: bigint}\n"
            ),
        },
        (
            "models/marts/b4.sql:3: breaks its contract: amount: is TEXT, the contract says BIGINT; "
            "extra: is not in the contract\n        cast(amount as varchar) as amount,\n",
            "→ change the SELECT or the model's YAML",
        ),
    ),
    "contract with another column": Mistake(
        {
            "models/marts/b5.sql": "select item from {{ ref('items') }}\n",
            "models/marts/b5.yml": (
                "models:\n  - name: b5\n    columns:\n      - {name: item, data_type: varchar}\n"
                "      - name: amount\n        data_type: bigint\n"
            ),
        },
        (
            "models/marts/b5.yml:5: breaks its contract: amount: is not in the SELECT\n",
            "→ change the SELECT or the model's YAML",
        ),
    ),
    "mart without YAML": Mistake(
        {"models/marts/b6.sql": "select 1 as a"},
        ("models/marts/b6.sql: has a contract from its folder, but no columns", "→ write its YAML beside it"),
    ),
    "unknown macro": Mistake(
        {f"{STAGING}/b7.sql": "select item, amount from {{ ref('stg_sales') }}\nwhere {{ cheap() }}"},
        (f"{STAGING}/b7.sql:2: cheap is not a macro or variable of this project", "→ correct its name"),
    ),
    "variable without a value": Mistake(
        {f"{STAGING}/b8.sql": "select item from {{ ref('stg_sales') }}\nwhere amount > {{ var('dearest') }}"},
        (f"{STAGING}/b8.sql:2: var('dearest') has no value", "→ give it one under vars in dbt_project.yml"),
    ),
    "seed with a value of another type": Mistake(
        {
            "seeds/b9.csv": "name,amount\nmany,1\npen,many\n",
            "seeds/b9.yml": "seeds: [{name: b9, config: {column_types: {name: varchar(8), amount: integer}}}]\n",
        },
        (
            "seeds/b9.csv:3: column amount: value 'many' is not of type integer\n    pen,many\n        ^\n",
            "→ correct the CSV, or set the column's type under column_types",
        ),
    ),
    "seed with a long value": Mistake(
        {
            "seeds/b10.csv": 'name,note\n"a\nb",xxxxxxxxx\npen,y\nwardrobe,z\n',
            "seeds/b10.yml": "seeds: [{name: b10, config: {column_types: {name: varchar(5)}}}]\n",
        },
        (
            "seeds/b10.csv:5: column name: value 'wardrobe' is longer than 5 bytes",
            "→ set a wider type under column_types",
        ),
    ),
    "seed with too many values": Mistake(
        {"seeds/b11.csv": "name,amount\npen,1\ndesk,big,2\n"},
        (
            "seeds/b11.csv:3: the row has 3 values, and there are 2 columns\n    desk,big,2\n",
            "→ quote a value that contains the separator",
        ),
    ),
    "syntax error": Mistake(
        {
            f"{STAGING}/b12.sql": (
                "select\n    item,\n    amount\nfrom {{ ref('stg_sales') }}\nwhere item in (select item from\n"
            )
        },
        (f"{STAGING}/b12.sql:5: syntax error", "\n    where item in (select item from\n"),
    ),
    "misplaced word": Mistake(
        {f"{STAGING}/b13.sql": "select item\nfrom {{ ref('stg_sales') }}\norder amount by item where\n"},
        (f"{STAGING}/b13.sql:3: syntax error", "\n    order amount by item where\n"),
    ),
    "unknown function": Mistake(
        {f"{STAGING}/b14.sql": "select\n    item,\n    half(amount) as half\nfrom {{ ref('stg_sales') }}\n"},
        (
            f"{STAGING}/b14.sql:3: function half(integer) does not exist\n        half(amount) as half\n        ^\n",
            "→ ",
        ),
    ),
    "unknown table": Mistake(
        {f"{STAGING}/b15.sql": "select *\nfrom landing.nowhere\n"},
        (f'{STAGING}/b15.sql:2: relation "landing.nowhere" does not exist\n', "→ "),
    ),
    "column that is not grouped": Mistake(
        {f"{STAGING}/b16.sql": "select\n    item,\n    sum(amount) as amount\nfrom {{ ref('stg_sales') }}\n"},
        (f"{STAGING}/b16.sql:2: column", "\n        item,\n        ^\n", "→ "),
    ),
    "ambiguous column": Mistake(
        {
            f"{STAGING}/b17.sql": (
                "select\n    amount\nfrom {{ ref('stg_sales') }} as a\ninner join {{ ref('stg_sales') }} as b on true\n"
            )
        },
        (f"{STAGING}/b17.sql:2: column reference", "\n        amount\n        ^\n", "→ "),
    ),
    "schema without permission": Mistake(
        {f"{STAGING}/b18.sql": "select *\nfrom secret.salaries\n"},
        (
            f"{STAGING}/b18.sql:2: permission denied for schema secret\n    from secret.salaries\n",
            "→ run as a superuser: grant usage on schema secret to",
        ),
    ),
    "failing test of a column": Mistake(
        {
            f"{STAGING}/b19.sql": "select 1 as id, 'x' as kind union all select 2, 'y' union all select 3, null",
            f"{STAGING}/b19.yml": (
                "models:\n  - name: b1\n    columns:\n      - name: kind\n  - name: b19\n    columns:\n"
                "      - {name: id, data_tests: [unique]}\n      - name: kind\n        data_tests:\n"
                "          - not_null\n          - accepted_values: {arguments: {values: [x]}}\n"
            ),
        },
        (
            f"{STAGING}/b19.yml:10: not_null of kind: 1 rows fail\nid\tkind\n3\t",
            f"{STAGING}/b19.yml:11: accepted_values of kind: 1 rows fail\nid\tkind\n2\ty\n",
        ),
    ),
    "failing test of a model whose key is an expression": Mistake(
        {
            f"{STAGING}/b22.sql": "select 1 as id, 'x' as kind",
            f"{STAGING}/b22.yml": (
                "models:\n  - name: b22\n    data_tests:\n"
                "      - unique: {arguments: {column_name: \"id || '-' || kind\"}}\n"
                "    columns:\n      - name: kind\n        data_tests:\n"
                "          - accepted_values: {arguments: {values: [y]}}\n"
            ),
        },
        (f"{STAGING}/b22.yml:8: accepted_values of kind: 1 rows fail\nvalue_field\tn_records\nx\t1\n",),
    ),
    "failing tests of a model with a quoted key": Mistake(
        {
            f"{STAGING}/b23.sql": (
                "select 1 as id, 'x' as kind, cast(null as super) as note\nunion all select 2, 'x', json_parse('[]')\n"
            ),
            f"{STAGING}/b23.yml": (
                "models:\n  - name: b23\n    columns:\n      - {name: ID, quote: true, data_tests: [unique]}\n"
                "      - {name: note, data_tests: [not_null]}\n      - name: kind\n        data_tests:\n"
                "          - accepted_values: {arguments: {values: [y]}, config: {where: id = 1}}\n"
            ),
        },
        (
            f"{STAGING}/b23.yml:5: not_null of note: 1 rows fail\nid\tnote\n1\t",
            # The other row has the value too, but the test does not read it.
            f"{STAGING}/b23.yml:8: accepted_values of kind: 1 rows fail\nvalue_field\tn_records\nx\t1\n",
        ),
    ),
    "unknown test": Mistake(
        {
            f"{STAGING}/b21.sql": "select 1 as item",
            f"{STAGING}/b21.yml": (
                "models:\n  - name: b21\n    columns:\n      - name: item\n        data_tests: [uniqeu]\n"
            ),
        },
        (
            f"{STAGING}/b21.yml:5: there is no test uniqeu\n"
            "            data_tests: [uniqeu]\n                         ^\n  → did you mean unique?",
        ),
    ),
    "semicolon": Mistake(
        {f"{STAGING}/b24.sql": "select item\nfrom {{ ref('stg_sales') }}\nwhere item <> ';';\n"},
        (
            f"{STAGING}/b24.sql:3: the model has more than one statement\n"
            "    where item <> ';';\n                     ^\n",
            "→ a model is one SELECT; remove the semicolon",
        ),
    ),
    "quote without an end": Mistake(
        {f"{STAGING}/b25.sql": "select item\nfrom {{ ref('stg_sales') }}\nwhere item = 'pen\n"},
        (
            f"{STAGING}/b25.sql:3: a quote or a comment has no end\n    where item = 'pen\n                 ^\n",
            "→ close it",
        ),
    ),
    "text in double quotes": Mistake(
        {f"{STAGING}/b26.sql": "select item\nfrom {{ ref('stg_sales') }}\nwhere item = \"pencil\"\n"},
        (f'{STAGING}/b26.sql:3: column "pencil" does not exist\n', "Text needs single quotes"),
    ),
    "another statement": Mistake(
        {f"{STAGING}/b27.sql": "create table x as select 1 as one\n"},
        (f'{STAGING}/b27.sql:1: syntax error at or near "create"\n', "→ a model is one SELECT; dbt creates the table"),
    ),
    "unknown materialization": Mistake(
        {f"{STAGING}/b28.sql": "{{ config(materialized='tabel') }}\nselect 1 as one\n"},
        (f"{STAGING}/b28.sql:1: there is no materialization tabel\n", "→ did you mean table?"),
    ),
    "column of the same name": Mistake(
        {
            f"{STAGING}/b29.sql": (
                "{{ config(materialized='table') }}\nselect\n    a.item,\n    b.item\n"
                "from {{ ref('stg_sales') }} as a cross join {{ ref('stg_sales') }} as b\n"
            )
        },
        (f'{STAGING}/b29.sql:3: column "item" specified more than once\n', "→ give one of them another name with AS"),
    ),
    "UNION of different columns": Mistake(
        {f"{STAGING}/b30.sql": "select item, amount from {{ ref('stg_sales') }}\nunion all\nselect 'union'\n"},
        (f"{STAGING}/b30.sql:2: each UNION query must have the same number of columns", "→ list the same columns"),
    ),
    "aggregate in WHERE": Mistake(
        {f"{STAGING}/b31.sql": "select item\nfrom {{ ref('stg_sales') }}\nwhere sum(amount) > 1\n"},
        (f"{STAGING}/b31.sql:3: aggregate functions are not allowed in WHERE", "→ filter after GROUP BY with HAVING"),
    ),
    "division by zero": Mistake(
        {
            f"{STAGING}/b32.sql": (
                "{{ config(materialized='table') }}\nselect 1 / (amount - amount) as one from {{ ref('stg_sales') }}\n"
            )
        },
        (f"{STAGING}/b32.sql: division by zero\n  → divide by nullif(<divisor>, 0)",),
    ),
    "value that cannot be cast": Mistake(
        {
            f"{STAGING}/b33.sql": (
                "{{ config(materialized='table') }}\nselect cast(item as integer) as item from {{ ref('stg_sales') }}\n"
            )
        },
        (f"{STAGING}/b33.sql: invalid input syntax for type integer", "→ correct the value, or leave out the rows"),
    ),
    "statement of PostgreSQL": Mistake(
        {f"{STAGING}/b34.sql": "select distinct on (item) item\nfrom {{ ref('stg_sales') }}\n"},
        (f"{STAGING}/b34.sql:1: SELECT DISTINCT ON is not supported\n", "→ PostgreSQL has it, Redshift does not"),
    ),
    "incremental model that reads itself": Mistake(
        {
            f"{STAGING}/b35.sql": (
                "{{ config(materialized='incremental') }}\nselect 1 as id\nwhere (select max(id) from {{ this }}) < 1\n"
            )
        },
        (f"{STAGING}/b35.sql:3: relation", "→ the first build has no table yet: read {{ this }} only in {% if is_incr"),
    ),
    "test without its arguments": Mistake(
        {
            f"{STAGING}/b36.sql": "select 1 as one",
            f"{STAGING}/b36.yml": (
                "models:\n  - name: b36\n    columns:\n      - name: one\n        data_tests: [accepted_values]\n"
            ),
        },
        (f"{STAGING}/b36.yml:5: syntax error", "\n            data_tests: [accepted_values]\n"),
    ),
    "misspelt keys": Mistake(
        {
            f"{STAGING}/b37.sql": "{{ config(materialised='table') }}\nselect 1 as one\n",
            f"{STAGING}/b37.yml": "models:\n  - name: b37\n    discription: D.\n    config: {our_own: 1}\n",
        },
        (
            f"! {STAGING}/b37.sql:1: dbt does not know the key 'materialised'\n  → did you mean materialized?\n",
            f"! {STAGING}/b37.yml:3: dbt does not know the key 'discription'\n  → did you mean description?\n",
        ),
    ),
    "failing test in SQL": Mistake(
        {"tests/b20.sql": "select id from {{ ref('b19') }} where id > 2"},
        ("tests/b20.sql: b20: 1 rows fail\nid\n3\n",),
    ),
}


@pytest.fixture(scope="module")
def built(warehouse_settings: Settings, template: Path, superuser, tmp_path_factory) -> str:
    """The output of a build of the project with all mistakes."""
    superuser("create schema if not exists secret", "create table if not exists secret.salaries (salary integer)")
    drop_schemas(warehouse_settings, "dbt_", but="")
    folder = shutil.copytree(template, tmp_path_factory.mktemp("mistakes") / "shop")
    for mistake in BUILT.values():
        for file, text in mistake.files.items():
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_text(text)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert commands.build(warehouse_settings, "", folder) == 1
    return output.getvalue()


@pytest.mark.parametrize("mistake", BUILT.values(), ids=BUILT)
def test_project_that_does_not_build(built: str, mistake: Mistake):
    for line in mistake.lines:
        assert line in built
    assert "Traceback" not in built
