"""The macro generate_schema_name: production, CI and developers never build in the same schema."""

from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest

MACRO = Path(__file__).parents[3] / "dbt_project" / "macros" / "generate_schema_name.sql"


class RefusedError(Exception):
    pass


def schema_name(target, schema, custom):
    def refuse(message):
        raise RefusedError(message)

    # The output is a name, not HTML.
    environment = jinja2.Environment(extensions=["jinja2.ext.do"])  # noqa: S701
    context = {
        "target": SimpleNamespace(name=target, schema=schema),
        "var": {"prod_schema": "analytics"}.get,
        "exceptions": SimpleNamespace(raise_compiler_error=refuse),
    }
    macro = environment.from_string(MACRO.read_text()).make_module(context)
    return str(macro.generate_schema_name(custom, None)).strip()


@pytest.mark.parametrize(
    ("target", "schema", "custom", "expected"),
    [
        ("prod", "analytics", None, "analytics"),
        ("prod", "analytics", "marketing", "marketing"),
        ("ci", "ci_pull_7", None, "ci_pull_7"),
        ("ci", "ci_pull_7", " marketing ", "ci_pull_7_marketing"),
        ("dev", "an", "alytics", "an_alytics"),
    ],
)
def test_targets_have_separate_schemas(target, schema, custom, expected):
    assert schema_name(target, schema, custom) == expected


@pytest.mark.parametrize(("schema", "custom"), [("analytics", None), ("Analytics", "x")])
def test_other_targets_cannot_build_in_production(schema, custom):
    with pytest.raises(RefusedError, match="var prod_schema"):
        schema_name("dev", schema, custom)
