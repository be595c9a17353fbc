"""Parse a dbt project and list the nodes of selections in one process: `python -m mwaa_release.list_nodes`.

Starting dbt and parsing takes seconds, listing a selection takes a tenth of one. Reads JSON from stdin, and writes the
nodes to the file that it names. Other modules call `run_dbt.parse_and_list`.
"""

import functools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dbt.cli.main import dbtRunner


def main() -> int:
    """Return dbt's exit code for the parse. dbt prints the reason."""
    request = json.load(sys.stdin)
    parse = dbtRunner().invoke(["--no-use-colors", "parse", "--no-partial-parse", *request["options"]])
    if not parse.success:
        return 1

    listings = list_nodes(parse.result, request["selections"], request["options"])
    Path(request["output"]).write_text(json.dumps(listings), encoding="utf-8")
    return 0


def list_nodes(
    manifest: Any, selections: Mapping[str, Sequence[str]], options: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return the unique ids of each selection's nodes as `nodes`, or dbt's message as `error`.

    Args:
        manifest: the result of dbt's parse.
        selections: arguments of `dbt list` by a name.
        options: of the parse.
    """

    @functools.cache
    def listing(*arguments: str) -> dict[str, Any]:
        command = ["--log-level=none", "list", "--output=json", "--output-keys=unique_id", *arguments, *options]
        run = dbtRunner(manifest=manifest).invoke(command)
        if not run.success:
            return {"error": str(run.exception)}
        return {"nodes": sorted(json.loads(line)["unique_id"] for line in run.result)}

    return {name: listing(*arguments) for name, arguments in selections.items()}


if __name__ == "__main__":
    sys.exit(main())
