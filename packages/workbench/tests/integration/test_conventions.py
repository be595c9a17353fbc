"""A project breaks each convention once, and the messages name the text to add."""

import re
from collections import defaultdict
from pathlib import Path

import pytest
from dbt_score.config import Config
from dbt_score.rule_registry import RuleRegistry

from workbench.check_conventions import RULES, find_pipeline_problems, parse, problems

CONFIG = """
name: shop
version: "1.0"
profile: shop
models:
  shop:
    staging: {+materialized: view}
    marts: {+materialized: table, +contract: {enforced: true}}
"""
PROFILE = """
shop:
  target: local
  outputs:
    local: {type: redshift, host: 127.0.0.1, port: 1, user: u, password: not-set, dbname: dev, schema: s}
"""
OWNED = "config: {meta: {owner: sales}}"
GOOD_COLUMN = "columns: [{name: id, description: Key., data_type: integer, data_tests: [unique, not_null]}]"
PRIMARY_KEY = "constraints: [{type: primary_key, columns: [id], warn_unenforced: false}]"
SOURCES = """
sources:
  - name: till
    tables:
      - name: sales
        columns: [{name: id}]
      - name: shops
        description: One row for each shop.
        config: {meta: {owner: sales}, freshness: {warn_after: {count: 1, period: day}}, loaded_at_field: at}
"""


def model(name: str, *lines: str) -> str:
    return "\n    ".join([f"models:\n  - name: {name}", *lines]) + "\n"


# Each file of the project. Its name or EXPECTED states its mistake.
FILES = {
    "dbt_project.yml": CONFIG,
    "profiles.yml": PROFILE,
    "models/staging/sources.yml": SOURCES,
    "models/staging/stg_sales.sql": "select id from {{ source('till', 'sales') }}",
    "models/staging/stg_sales.yml": model("stg_sales", "description: Sales.", OWNED, GOOD_COLUMN),
    "models/staging/stg_bare.sql": "select id from {{ source('till', 'sales') }}",
    "models/staging/stg_reads_model.sql": "select id from {{ ref('stg_sales') }}",
    "models/staging/stg_reads_model.yml": model("stg_reads_model", "description: D.", OWNED, GOOD_COLUMN),
    "models/staging/no_prefix.sql": "select id from {{ source('till', 'sales') }}",
    "models/staging/no_prefix.yml": model("no_prefix", "description: D.", OWNED, GOOD_COLUMN),
    "models/marts/good.sql": "-- from nowhere.special\nselect id from {{ ref('stg_sales') }}",
    "models/marts/good.yml": model("good", "description: D.", OWNED, PRIMARY_KEY, GOOD_COLUMN),
    "models/marts/undescribed_column.sql": "select id, shop from {{ ref('stg_sales') }}",
    "models/marts/undescribed_column.yml": model(
        "undescribed_column",
        "description: D.",
        OWNED,
        PRIMARY_KEY,
        GOOD_COLUMN[:-1] + ", {name: shop, data_type: integer}]",
    ),
    "models/marts/no_contract.sql": "{{ config(contract={'enforced': false}) }}\nselect id from {{ ref('stg_sales') }}",
    "models/marts/no_contract.yml": model("no_contract", "description: D.", OWNED, GOOD_COLUMN),
    "models/marts/no_primary_key.sql": "select id from {{ ref('stg_sales') }}",
    "models/marts/no_primary_key.yml": model("no_primary_key", "description: D.", OWNED, GOOD_COLUMN),
    "models/marts/public_without_grant.sql": "select id from {{ ref('good') }}",
    "models/marts/public_without_grant.yml": model(
        "public_without_grant", "description: D.", OWNED[:-1] + ", access: public}", PRIMARY_KEY, GOOD_COLUMN
    ),
    "models/marts/granted.sql": "select id from {{ ref('good') }}",
    "models/marts/granted.yml": model(
        "granted",
        "description: D.",
        OWNED[:-1] + ", grants: {select: ['group:s_consumers']}}",
        PRIMARY_KEY,
        GOOD_COLUMN,
    ),
    "models/marts/reads_source.sql": "select id from {{ source('till', 'sales') }}",
    "models/marts/reads_source.yml": model("reads_source", "description: D.", OWNED, PRIMARY_KEY, GOOD_COLUMN),
    "models/marts/reads_by_name.sql": "select id from {{ ref('good') }} join analytics.orders using (id)",
    "models/marts/reads_by_name.yml": model("reads_by_name", "description: D.", OWNED, PRIMARY_KEY, GOOD_COLUMN),
    "models/marts/shop.sql": "select id from {{ ref('good') }}",
    "models/marts/shop.yml": model("shop", "description: D.", OWNED, PRIMARY_KEY, GOOD_COLUMN),
    "models/marts/Capital.sql": "select id from {{ ref('good') }}",
    "models/marts/Capital.yml": model("Capital", "description: D.", OWNED, PRIMARY_KEY, GOOD_COLUMN),
    "models/marts/stg_in_marts.sql": "select id from {{ ref('good') }}",
    "models/marts/stg_in_marts.yml": model("stg_in_marts", "description: D.", OWNED, PRIMARY_KEY, GOOD_COLUMN),
    "models/elsewhere.sql": "select id from {{ ref('good') }}",
    "models/elsewhere.yml": model("elsewhere", "description: D.", OWNED, GOOD_COLUMN),
    "models/marts/elsewhere_described.sql": "select id from {{ ref('good') }}",
    "models/marts/many.yml": model("elsewhere_described", "description: D.", OWNED, PRIMARY_KEY, GOOD_COLUMN),
    "seeds/bare_seed.csv": "id\n1\n",
    "snapshots/bare_snapshot.yml": (
        "snapshots:\n  - name: bare_snapshot\n    relation: ref('good')\n"
        "    config: {strategy: check, unique_key: id, check_cols: all}\n"
    ),
}

# File, rule and message.
EXPECTED = [
    ("models/staging/stg_bare.sql", "model_is_described", "add `description: <one row is …>` to stg_bare"),
    (
        "models/staging/stg_bare.sql",
        "model_is_keyed",
        "add `data_tests: [unique, not_null]` to the column that is the key",
    ),
    ("models/staging/stg_bare.sql", "model_is_owned", "add `config: {meta: {owner: <team>}}` to stg_bare"),
    ("models/staging/stg_bare.sql", "model_has_its_own_yaml", "has no YAML; its place is models/staging/stg_bare.yml"),
    (
        "models/marts/elsewhere_described.sql",
        "model_has_its_own_yaml",
        "is described in models/marts/many.yml; its place is",
    ),
    ("models/marts/undescribed_column.sql", "model_is_described", "columns without description: shop; add"),
    ("models/marts/no_contract.sql", "mart_has_an_enforced_contract", "remove `contract` from its config"),
    ("models/marts/no_primary_key.sql", "mart_has_an_enforced_contract", "add `constraints: [{type: primary_key"),
    (
        "models/marts/public_without_grant.sql",
        "model_is_granted_to_consumers_if_it_is_public",
        "`grants: {select: ['group:<schema of the pipeline>_consumers']}`",
    ),
    (
        "models/marts/granted.sql",
        "model_is_granted_to_consumers_if_it_is_public",
        "is granted to group:s_consumers, but it is not public",
    ),
    (
        "models/marts/reads_source.sql",
        "model_reads_the_layer_below",
        "reads source till.sales; read it in a staging model",
    ),
    (
        "models/staging/stg_reads_model.sql",
        "model_reads_the_layer_below",
        "reads stg_sales; a staging model must read exactly one source",
    ),
    ("models/marts/reads_by_name.sql", "model_names_relations_through_dbt", "write {{ ref('orders') }}"),
    ("models/marts/Capital.sql", "model_is_in_a_layer", "lower-case letters, digits and underscores; rename"),
    ("models/marts/shop.sql", "model_is_in_a_layer", "has the name of the project"),
    ("models/marts/stg_in_marts.sql", "model_is_in_a_layer", "has the prefix of models/staging/; move it there"),
    ("models/staging/no_prefix.sql", "model_is_in_a_layer", "so rename it: stg_no_prefix"),
    ("models/elsewhere.sql", "model_is_in_a_layer", "is in no layer; move it into models/staging/, models/marts/"),
    ("models/staging/sources.yml", "source_is_described", "add `description: <one row is …>` to sales"),
    ("models/staging/sources.yml", "source_is_owned", "add `config: {meta: {owner: <team>}}` to sales"),
    ("models/staging/sources.yml", "source_has_freshness", "freshness: {warn_after: {count: 36, period: hour}}"),
    ("models/staging/sources.yml", "source_is_read_by_one_model", "make new-model NAME=stg_shops LAYER=staging"),
    (
        "models/staging/sources.yml",
        "source_is_read_by_one_model",
        "is read by no_prefix, reads_source, stg_bare, stg_sales",
    ),
    (
        "seeds/bare_seed.csv",
        "seed_is_described",
        "add `description: <one row is …>` to bare_seed in seeds/bare_seed.yml",
    ),
    ("seeds/bare_seed.csv", "seed_is_keyed", "seeds/bare_seed.yml"),
    ("seeds/bare_seed.csv", "seed_is_owned", "add `config: {meta: {owner: <team>}}` to bare_seed"),
    ("snapshots/bare_snapshot.yml", "snapshot_is_described", "to bare_snapshot in snapshots/bare_snapshot.yml"),
    ("snapshots/bare_snapshot.yml", "snapshot_is_owned", "to bare_snapshot"),
]


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


@pytest.fixture(scope="module")
def broken_rules(tmp_path_factory) -> list[str]:
    folder = write(tmp_path_factory.mktemp("project"), FILES)
    assert parse(folder, folder / "target")
    return problems(folder / "target" / "manifest.json")


@pytest.mark.parametrize(("file", "rule", "message"), EXPECTED)
def test_broken_convention_is_reported_with_the_fix(broken_rules, file, rule, message):
    assert [
        line for line in broken_rules if line.startswith(f"{file}: ") and message in line and line.endswith(f"[{rule}]")
    ]


def test_no_other_line_is_reported(broken_rules):
    expected = defaultdict(int)
    for file, rule, _ in EXPECTED:
        expected[file, rule] += 1
    reported = defaultdict(int)
    for line in broken_rules:
        reported[line.split(": ", 1)[0], line.rsplit("[", 1)[1].rstrip("]")] += 1
    assert dict(reported) == dict(expected)


def test_every_convention_is_covered():
    config = Config()
    config.rule_namespaces = [RULES]
    registry = RuleRegistry(config)
    registry.load_all()
    assert {name.rsplit(".", 1)[1] for name in registry.rules} == {rule for _, rule, _ in EXPECTED}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"models/marts/lost.sql": "select 1 as id from {{ ref('gone') }}"}, ("models/marts/lost.sql", "'gone'")),
        ({"models/marts/open.sql": "select {{ 1"}, ("models/marts/open.sql", "unexpected end of template")),
        ({"models/marts/ghost.yml": model("ghost", "description: D.")}, ("models/marts/ghost.yml", "ghost")),
        (
            {"models/a/same.sql": "select 1", "models/b/same.sql": "select 1"},
            ("models/a/same.sql", "models/b/same.sql"),
        ),
    ],
    ids=["a missing model", "does not compile", "YAML without a model", "a name twice"],
)
def test_parse_errors_name_the_file(tmp_path, capfd, files, words):
    folder = write(tmp_path, {"dbt_project.yml": CONFIG, "profiles.yml": PROFILE, **files})
    assert parse(folder, folder / "target") is None
    output = capfd.readouterr().out
    assert all(word in output for word in words), output


def test_wrong_option_of_dbt_is_reported(tmp_path, capsys, monkeypatch):
    folder = write(tmp_path, {"dbt_project.yml": CONFIG, "profiles.yml": PROFILE})
    monkeypatch.setenv("DBT_LOG_LEVEL", "loud")
    assert parse(folder, folder / "target") is None
    output = capsys.readouterr().out
    assert output.startswith(f"{folder.name}: dbt could not start: ")
    assert "'loud'" in output


PIPELINES = """
pipelines:
  - {{dag_name: daily, project_name: {project}, redshift_connection_id: c, target_database: dev, target_schema: s,
     select: [{selector}], schedule: [{asset}]}}
"""


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("project", "shpo", "project_name: the repository has no dbt project 'shpo'. Did you mean 'shop'?"),
        ("asset", "weekly", "schedule: 'weekly' is not a pipeline of this file."),
        ("asset", "shpo.good", "write external:shpo.good. Did you mean 'shop'?"),
        ("selector", "stg_sale+", "Correct or remove it. Did you mean 'stg_sales'?"),
        ("selector", "state:modified", "select.0: dbt refuses 'state:modified': "),
        ("selector", "marts.*", None),
    ],
)
def test_lint_reports_the_pipelines_that_the_build_refuses(tmp_path, capfd, setting, value, message):
    write(tmp_path / "dbt_shop", {name: FILES[name] for name in ("dbt_project.yml", "profiles.yml")})
    write(tmp_path / "dbt_shop", {"models/stg_sales.sql": "select 1 as id", "models/marts/good.sql": "select 1 as id"})
    values = {"project": "shop", "selector": "good", "asset": "external:landed", setting: value}
    write(tmp_path, {"dags/pipelines.yml": PIPELINES.format(**values)})
    manifests = {tmp_path / "dbt_shop": parse(tmp_path / "dbt_shop", tmp_path / "target" / "dbt_shop", False)}
    lines = find_pipeline_problems(tmp_path / "dags" / "pipelines.yml", manifests, tmp_path / "target")
    assert len(lines) == (1 if message else 0), lines
    if message:
        assert re.search(r"pipelines\.yml(:\d+)?: pipeline daily: ", lines[0])
        assert message in lines[0]
    # dbt prints nothing of its own.
    assert capfd.readouterr().out == ""


READING_PIPELINE = """
  - {dag_name: reading, project_name: reader, redshift_connection_id: r, target_database: dev, target_schema: r,
     schedule: [shop.good, shop.hidden]}
"""
SOURCES_OF_READER = """
sources: [{name: shop, schema: shop_marts, tables: [{name: good}, {name: hidden}]}]
"""


def test_lint_reports_uses_of_private_models_of_other_projects(tmp_path):
    settings = {name: FILES[name] for name in ("dbt_project.yml", "profiles.yml")}
    public = "models: [{name: good, config: {access: public}}]"
    models = {"models/good.sql": "select 1 as id", "models/good.yml": public, "models/hidden.sql": "select 2 as id"}
    write(tmp_path / "shop", {**settings, **models})
    other = {name: text.replace("shop", "reader") for name, text in settings.items()}
    write(tmp_path / "reader", {**other, "models/sources.yml": SOURCES_OF_READER, "models/a.sql": "select 1 as id"})
    pipeline = PIPELINES.format(project="shop", selector="good", asset="external:landed").rstrip("\n")
    entries = pipeline.replace("target_schema: s", "target_schema: shop_marts") + READING_PIPELINE
    write(tmp_path, {"dags/pipelines.yml": entries})
    manifests = {
        tmp_path / name: parse(tmp_path / name, tmp_path / "target" / name, False) for name in ("shop", "reader")
    }
    read, schedule = find_pipeline_problems(tmp_path / "dags" / "pipelines.yml", manifests, tmp_path / "target")
    assert read.startswith(
        "project reader: models/sources.yml: the source shop.hidden is shop.hidden, which is not public"
    )
    assert schedule.startswith("dags/pipelines.yml: pipeline reading: schedule: 'shop.hidden' is not a public model")
