"""A build with a cache parses a project once, until something that dbt reads changes."""

import shutil
from pathlib import Path

import pytest

from mwaa_release import manifest
from mwaa_release.build import build

ENTRY = "dag_name: daily, project_name: toy, redshift_connection_id: c, target_database: dev, target_schema: s"


class Parsed(Exception):  # noqa: N818 - no error, but the news that dbt would parse
    """dbt would parse the project."""


def released(folder: Path, repository: Path, cache: Path | None) -> dict[str, bytes]:
    """Build a release, and return its files."""
    (release,) = build(folder, repository=repository, cache=cache).releases
    return {file.path: (folder / release.prefix / file.path).read_bytes() for file in release.files}


def refuse_to_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise Parsed

    monkeypatch.setattr(manifest, "parse_and_list", refuse)


def test_unchanged_project_is_not_parsed_again(toy_repository, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    (toy_repository / "dags" / "pipelines.yml").write_text(f"pipelines:\n  - {{{ENTRY}, select: [first]}}\n")
    first = released(tmp_path / "out", toy_repository, cache)
    # A damaged result is replaced, and old results are deleted.
    (stored,) = cache.iterdir()
    stored.write_text(stored.read_text()[:100])
    monkeypatch.setattr("mwaa_release.parse_cache._STORED", 2)
    for number in range(3):
        (cache / f"{number}.json").write_text("{}")
    assert released(tmp_path / "out", toy_repository, cache) == first
    assert stored in (left := list(cache.iterdir()))
    assert len(left) == 2
    refuse_to_parse(monkeypatch)
    # dbt does not read variables that the project does not name.
    monkeypatch.setenv("OTHER", "1")
    assert released(tmp_path / "out", toy_repository, cache) == first
    with pytest.raises(Parsed):
        released(tmp_path / "out", toy_repository, None)


def test_everything_that_dbt_reads_is_compared(toy_repository, tmp_path, monkeypatch):
    pipelines = "dags/pipelines.yml"
    (toy_repository / pipelines).write_text(f"pipelines:\n  - {{{ENTRY}, select: [first]}}\n")
    model = toy_repository / "dbt_project" / "models" / "third.sql"
    model.write_text("select '{{ env_var('LAYER_' ~ 'NAME', '') }}' as layer\n")
    monkeypatch.setenv("LAYER_NAME", "gold")
    before = released(tmp_path / "out", toy_repository, tmp_path / "cache")
    refuse_to_parse(monkeypatch)
    for number, (name, old, new) in enumerate(
        [
            ("dbt_project/models/first.sql", "select 1", "select 2"),
            ("dbt_project/seeds/codes.csv", "1", "2"),
            ("dbt_project/profiles.yml", "dbname: dev", "dbname: other"),
            (pipelines, "select: [first]", "select: [second]"),
            (pipelines, "select: [first]", "select: [first], env: {LAYER_NAME: silver}"),
        ]
    ):
        copy = shutil.copytree(toy_repository, tmp_path / f"copy-{number}")
        assert released(tmp_path / "out", copy, tmp_path / "cache") == before
        (copy / name).write_text((copy / name).read_text().replace(old, new))
        with pytest.raises(Parsed):
            released(tmp_path / "out", copy, tmp_path / "cache")
    monkeypatch.setenv("LAYER_NAME", "silver")
    with pytest.raises(Parsed):
        released(tmp_path / "out", toy_repository, tmp_path / "cache")


@pytest.mark.parametrize("use", ["env_var(name, '')", "[env_var][0](name, '')"])
def test_project_with_a_computed_variable_is_always_parsed(toy_repository, tmp_path, use):
    model = toy_repository / "dbt_project" / "models" / "third.sql"
    model.write_text(f"{{% set name = 'LAYER' %}}select '{{{{ {use} }}}}' as layer\n")
    released(tmp_path / "out", toy_repository, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
