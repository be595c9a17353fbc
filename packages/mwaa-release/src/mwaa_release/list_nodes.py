"""Parse a dbt project and list the nodes of selections in one process: `python -m mwaa_release.list_nodes`.

Starting dbt and parsing takes seconds, listing a selection takes a tenth of one. Reads JSON from stdin, and writes the
nodes to the file that it names. Other modules call `run_dbt.parse_and_list`.
"""

import functools
import json
import sys
from pathlib import Path
from typing import Any

from dbt.cli.main import dbtRunner


def main() -> int:
    """Return dbt's exit code for the parse. dbt prints the reason."""
    request = json.load(sys.stdin)
    parse = dbtRunner().invoke(["--no-use-colors", "parse", "--no-partial-parse", *request["options"]])
    if not parse.success:
        return 1

    @functools.cache
    def listing(*arguments: str) -> dict[str, Any]:
        command = ["--quiet", "list", "--output=json", "--output-keys=unique_id", *arguments, *request["options"]]
        run = dbtRunner(manifest=parse.result).invoke(command)
        if not run.success:
            return {"error": str(run.exception)}
        return {"nodes": sorted(json.loads(line)["unique_id"] for line in run.result)}

    listings = {name: listing(*arguments) for name, arguments in request["selections"].items()}
    Path(request["output"]).write_text(json.dumps(listings), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
