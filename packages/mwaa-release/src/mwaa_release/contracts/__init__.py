"""Facts about AWS and GitHub on which the project depends: one TOML file per contract, with its source.

Every file has `checked`, a date, and `source`, an address or a place in a public repository. A contract changes without
notice, so `make lint` warns about contracts that were not compared with their source for a long time.
"""

import datetime
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

MAX_AGE_DAYS = 180
_FOLDER = Path(__file__).parent


@cache
def contract(name: str) -> dict[str, Any]:
    """Return the content of `<name>.toml`."""
    return tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def outdated(today: datetime.date) -> list[str]:
    """Return a message for each contract whose last check is more than MAX_AGE_DAYS days ago, sorted by name."""
    messages = []
    for path in sorted(_FOLDER.glob("*.toml")):
        content = contract(path.stem)
        days = (today - content["checked"]).days
        if days > MAX_AGE_DAYS:
            messages.append(
                f"{path.name} was last checked {days} days ago, on {content['checked']}. "
                f"Compare it with {content['source']}, then set `checked` in {path}"
            )
    return messages
