#!/bin/sh
# Creates the virtual environment of the Makefile's commands. Needs only Python 3.12 and a package index.
# With --check it installs nothing, and exits with 0 if the environment is up to date.
#
# The template has its packages in packages/ and installs them as editable. A copy has wheels/requirements.txt instead, which
# pins them by version and hash; the wheels are in wheels/ or on the package index.
set -eu
cd "$(dirname "$0")/.."
state=${LOCAL_DIR:-.local}
venv=$state/venvs/tools
lock=packages/workbench/src/workbench/requirements/tools.txt
pinned=wheels/requirements.txt

fail() { printf 'Set-up failed: %s\n' "$*" >&2; exit 2; }

if [ -e "$lock" ]; then wanted=$(cat "$lock" packages/*/pyproject.toml | cksum)
elif [ -e "$pinned" ]; then wanted=$(cat wheels/* | cksum)
else fail "$pinned is missing. Restore it: git checkout HEAD -- wheels"
fi
is_ready() { [ "$(cat "$venv/.ready" 2>/dev/null || echo)" = "$wanted" ] && "$venv/bin/python" -c '' 2>/dev/null; }
if [ "${1:-}" = --check ]; then is_ready && exit 0; exit 1; fi

# Only one command at a time can set up a checkout.
mkdir -p "$state/venvs"
mutex=$state/venvs/.lock
waited=0
until mkdir "$mutex" 2>/dev/null; do
  owner=$(cat "$mutex/pid" 2>/dev/null || echo)
  if [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; then rm -rf "$mutex"; continue; fi
  waited=$((waited + 1))
  [ "$waited" -lt 600 ] || fail "another command has been setting up $venv for 10 minutes; if none runs, remove $mutex"
  sleep 1
done
echo $$ > "$mutex/pid"
trap 'rm -rf "$mutex"' EXIT
trap 'exit 130' INT TERM

if is_ready; then exit 0; fi

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

echo "Installing the tools into $venv ..." >&2
rm -f "$venv/.ready"
if ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; then
  "$uv" venv --quiet --clear --python "$python" "$venv" || fail "uv could not make $venv"
fi
install() {
  command=$1
  shift
  VIRTUAL_ENV=$venv "$uv" pip "$command" --quiet --compile-bytecode "$@"
}
if [ -e "$lock" ]; then
  install sync --require-hashes "$lock" || fail "$lock could not be installed; is a package index reachable (UV_DEFAULT_INDEX)?"
  # shellcheck disable=SC2046 # one word for each package
  install install --no-deps $(printf -- '-e %s ' packages/*/) ||
    fail "the packages in packages/ could not be installed; is a package index reachable (UV_DEFAULT_INDEX)?"
else
  for name in dbt-audit-trail mwaa-local mwaa-pipelines mwaa-release mwaa-workbench redshift-local; do
    grep -q "^$name==" "$pinned" || fail "$pinned has no version of $name. Restore it: git checkout HEAD -- wheels"
  done
  cure="See uv's message above: a wheel in wheels/ is missing or differs from its hash. Restore it: git checkout HEAD -- wheels"
  # Two different builds can have the same version, so reinstall.
  install install --reinstall --no-deps --require-hashes --find-links wheels --requirement "$pinned" ||
    fail "the packages of $pinned could not be installed. $cure"
  # The workbench contains the versions of all other packages.
  lock=$venv/lib/python3.12/site-packages/workbench/requirements/tools.txt
  install sync --require-hashes --find-links wheels "$lock" "$pinned" ||
    fail "$lock could not be installed; is a package index reachable (UV_DEFAULT_INDEX)?"
fi
"$venv/bin/python" -m mwaa_pipelines.settings > "$state/pipelines.schema.json" ||
  fail "the editor schema $state/pipelines.schema.json could not be written"
printf '%s\n' "$wanted" > "$venv/.ready"
