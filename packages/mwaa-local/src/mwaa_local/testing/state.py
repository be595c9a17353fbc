"""The state folder whose virtual environment runs the tests: `.local`, or the value of LOCAL_DIR at make's start."""

import sys
from pathlib import Path

STATE = Path(sys.prefix).parents[1]
