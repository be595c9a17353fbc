"""`make new-domain`: a dbt project for another team, with an example mart and everything that a pipeline needs."""

import tempfile
from pathlib import Path

from mwaa_release.manifest import AUDIT_TRAIL
from workbench.bring import BroughtProject, add_project, check_new, copy_linter_files
from workbench.new_model import check_name, new_model
from workbench.template import check_clean

_TYPE = "make new-domain NAME=<name>, such as NAME=sales"
_SETTINGS = """\
name: {name}
version: "1.0.0"
profile: {name}
require-dbt-version: [">=1.11.0", "<1.12.0"]

flags:
  send_anonymous_usage_stats: false
  # Grants to groups: dbt grants public models to the group {name}_consumers.
  redshift_grants_extended: true

models:
  {name}:
    # Late-binding views survive the drop of what they read.
    +bind: false
    +meta:
      owner: {name}
    staging:
      +materialized: view
      +tags: staging
    marts:
      +materialized: table
      +tags: mart
      +contract:
        enforced: true
"""


def new_domain(repository: Path, name: str) -> BroughtProject:
    """Create a dbt project in the repository, add its pipeline to dags/pipelines.yml, and stage the changes.

    Args:
        repository: without uncommitted changes, so that git can undo this.
        name: of the project, its folder and its schema.

    Raises:
        SetupError: the name is not possible, or the repository has it already. Nothing was changed.
    """
    check_name(name, _TYPE)
    check_clean(repository)
    check_new(repository, name, name)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / name
        folder.mkdir()
        (folder / "dbt_project.yml").write_text(_SETTINGS.format(name=name))
        # As the linters want it.
        (folder / "packages.yml").write_text(f"packages:\n  - local: {AUDIT_TRAIL}\n")
        copy_linter_files(repository / "dbt_project", folder)
        new_model(folder, f"{name}_example", "marts")
        return add_project(repository, folder, name, {})
