"""The editor settings are valid, name existing files, and use the same tools in the container."""

import json
import re

from mwaa_local.settings import REPOSITORY


def test_editor_settings_name_existing_files():
    text = (REPOSITORY / ".vscode" / "settings.json").read_text()
    paths = re.findall(r"\$\{workspaceFolder\}/([^\":]+)", text)
    assert paths
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []
    for schema, file in json.loads(text)["yaml.schemas"].items():
        # `make deps` writes it.
        assert json.loads((REPOSITORY / schema).read_text())["title"] == "pipelines.yml"
        assert f"$schema={'../' + schema}" in (REPOSITORY / file).read_text()


def test_container_uses_the_tools_of_a_laptop():
    container = json.loads((REPOSITORY / ".devcontainer" / "devcontainer.json").read_text())
    version = (REPOSITORY / ".python-version").read_text().strip()
    assert f"python:{version}-" in container["image"]
    recommended = json.loads((REPOSITORY / ".vscode" / "extensions.json").read_text())["recommendations"]
    assert container["customizations"]["vscode"]["extensions"] == recommended
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    program, *targets_used = container["postCreateCommand"].split()
    assert program == "make"
    assert set(targets_used) <= set(targets)
