#!/bin/sh
# Makes the virtual environment that the commands of the Makefile run in, from nothing but Python 3.12 and a package index.
# Prints the path of its Python. Does nothing when neither requirements/tools.txt nor a package's
# pyproject.toml has changed since the last time.
set -eu
cd "$(dirname "$0")/.."
state=${LOCAL_DIR:-.local}
venv=$state/venvs/tools
mkdir -p "$state/venvs"

fail() { printf 'Set-up failed: %s\n' "$*" >&2; exit 2; }

# A checkout that two commands set up at once must not end half made.
lock=$state/venvs/.lock
waited=0
until mkdir "$lock" 2>/dev/null; do
  owner=$(cat "$lock/pid" 2>/dev/null || echo)
  if [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; then rm -rf "$lock"; continue; fi
  waited=$((waited + 1))
  [ "$waited" -lt 600 ] || fail "another command has been setting up $venv for 10 minutes; if none runs, remove $lock"
  sleep 1
done
echo $$ > "$lock/pid"
trap 'rm -rf "$lock"' EXIT
trap 'exit 130' INT TERM

wanted=$(cat requirements/tools.txt packages/*/pyproject.toml | cksum)
if [ "$(cat "$venv/.ready" 2>/dev/null || echo)" = "$wanted" ] && "$venv/bin/python" -c '' 2>/dev/null; then
  exit 0
fi

python=
for candidate in "${PYTHON:-python3.12}" python3 "$HOME"/.pyenv/versions/3.12*/bin/python; do
  if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; then python=$candidate; break; fi
done
[ -n "$python" ] || fail "Python 3.12 was not found. Install it, or name it: make run PYTHON=/path/to/python3.12"

if command -v uv >/dev/null 2>&1; then uv=uv
else
  uv=$state/venvs/uv/bin/uv
  if ! "$uv" --version >/dev/null 2>&1; then
    echo "Fetching uv ..." >&2
    rm -rf "$state/venvs/uv"
    "$python" -m venv "$state/venvs/uv" || fail "$python cannot make a virtual environment (Debian: apt-get install python3.12-venv)"
    "$state/venvs/uv/bin/python" -m pip install -qq --retries 2 --disable-pip-version-check 'uv==0.13.9' ||
      fail "uv could not be installed; is a package index reachable (PIP_INDEX_URL)?"
  fi
fi

echo "Installing the tools into $venv (only after a change of requirements/tools.txt or of a package's settings) ..." >&2
rm -f "$venv/.ready"
if ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; then
  "$uv" venv --quiet --clear --python "$python" "$venv" || fail "uv could not make $venv"
fi
VIRTUAL_ENV=$venv "$uv" pip sync --quiet --compile-bytecode --require-hashes requirements/tools.txt ||
  fail "requirements/tools.txt could not be installed; is a package index reachable (UV_DEFAULT_INDEX)?"
# shellcheck disable=SC2046 # one word for each package
VIRTUAL_ENV=$venv "$uv" pip install --quiet --no-deps $(printf -- '-e %s ' packages/*/) ||
  fail "the packages in packages/ could not be installed; is a package index reachable (UV_DEFAULT_INDEX)?"
"$venv/bin/python" -m mwaa_pipelines.settings > "$state/pipelines.schema.json" ||
  fail "the editor schema $state/pipelines.schema.json could not be written"
printf '%s\n' "$wanted" > "$venv/.ready"
