#!/bin/bash
# MWAA sources this file with bash on every component, as user airflow, in AIRFLOW_HOME, before it installs requirements.txt,
# and keeps the exported variables. The file installs dbt into a separate virtual environment, because dbt's dependencies
# conflict with Airflow's. Every failure becomes one line in the start-up log and in ${DBT_VENV_PATH}.error, which the DAGs
# show. Nothing here exits the shell, because that would stop the container.

export DBT_VENV_PATH="${AIRFLOW_HOME:-/usr/local/airflow}/dbt_venv"
export DBT_PROJECT_PATH="${AIRFLOW_HOME:-/usr/local/airflow}/dags/dbt"

# Send no usage statistics.
export AIRFLOW__COSMOS__ENABLE_TELEMETRY=False
export DBT_SEND_ANONYMOUS_USAGE_STATS=False
# It writes an Airflow Variable after every node, for a retry of the producer task, which is never retried.
export AIRFLOW__COSMOS__ENABLE_WATCHER_RELIABLE_RETRY=False
# The cache creates folders whenever a DAG file is parsed. Tasks share dbt's partial parse without it.
export AIRFLOW__COSMOS__ENABLE_CACHE=False
# It hashes the project's files at every parse. The release in each DAG's documentation already identifies them.
export AIRFLOW__COSMOS__ENABLE_DAG_VERSIONING=False

# MWAA marks the container unhealthy when this file runs for 4 minutes 55 seconds. All steps together end before that.
# (STARTUP_SCRIPT_MAX_EXECUTION_TIME in setup_environment.py of aws/amazon-mwaa-docker-images, read 2026-11)
_dbt_seconds=240
_dbt_deadline=$((SECONDS + _dbt_seconds))

_dbt_before_deadline() {
    local left=$((_dbt_deadline - SECONDS))
    # macOS has no timeout and needs no limit.
    command -v timeout >/dev/null || { "$@"; return; }
    timeout --kill-after=5 "$((left > 0 ? left : 1))" "$@"
}

# Prints why a step failed: its exit code after "timeout", or the line that describes the error in the log.
_dbt_reason() {
    if [ "$1" -eq 124 ] || [ "$1" -eq 137 ]; then
        echo "timed out ${_dbt_seconds} seconds after the start"
    else
        grep -m 1 '^ERROR' "$2" || tail -n 1 "$2"
    fi
}

# The triggerer imports the sensors' trigger from the DAGs folder, which is not on its path. MWAA's image replaces PYTHONPATH
# after this script, so a .pth file adds the folder. (images/airflow/3.3.1/python/mwaa/config/setup_environment.py in
# aws/amazon-mwaa-docker-images, read 2026-11)
_dbt_triggerer_path() {
    local site
    site="$(_dbt_before_deadline python3 -c 'import site, sysconfig; print(site.getusersitepackages() if site.ENABLE_USER_SITE else sysconfig.get_path("purelib"))')" || return 1
    mkdir -p "${site}" || return 1
    echo 'import os, sys; sys.path.append(os.path.join(os.environ.get("AIRFLOW_HOME", "/usr/local/airflow"), "dags"))' >"${site}/mwaa_pipelines.pth"
}

# Downloads wheels from the folder in S3 that environment.yml names: those of the pins, and all of requirements.txt.
# The address, the file with the pins and the target are its arguments.
_dbt_download() {
    _dbt_before_deadline python3 - "$@" <<'PYTHON'
import pathlib, re, sys
from concurrent.futures import ThreadPoolExecutor

import boto3

address, pins, target = sys.argv[1:]
pinned = set(re.findall(r"^([\w.-]+==[\w.]+)", pathlib.Path(pins).read_text(), re.MULTILINE))
bucket, _, prefix = address.removeprefix("s3://").partition("/")
s3 = boto3.client("s3")
pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
paths = [pathlib.PurePosixPath(item["Key"]) for page in pages for item in page.get("Contents", ())]
if not paths:
    sys.exit(f"ERROR: {address} is empty; release what this command builds: python -m mwaa_release build --wheels")


def is_needed(path):
    name, version = path.name.split("-")[:2]
    return path.parent.name != "dbt" or f"{re.sub('[-_.]+', '-', name).lower()}=={version}" in pinned


def download(path):
    file = pathlib.Path(target, path.name)
    if not file.exists():
        s3.download_file(bucket, str(path), str(file))


pathlib.Path(target).mkdir(exist_ok=True)
with ThreadPoolExecutor(8) as pool:
    list(pool.map(download, filter(is_needed, paths)))
PYTHON
}

_dbt_pins() {
    cat <<'PINS'
# pins: begin (make lock writes the lines between these two)
agate==1.9.1
annotated-types==0.8.0
asn1crypto==1.5.1
attrs==26.1.0
babel==2.18.0
beautifulsoup4==4.15.0
boto3==1.44.5
botocore==1.44.5
certifi==2026.10.18
charset-normalizer==3.5.2
click==8.5.1
colorama==0.4.6
daff==1.4.2
dbt-adapters==1.24.5
dbt-common==1.39.0
dbt-core==1.11.16
dbt-extractor==0.6.0
dbt-postgres==1.11.0
dbt-protos==1.0.615
dbt-redshift==1.11.1
dbt-semantic-interfaces==0.9.0
deepdiff==8.6.2
idna==3.20
importlib-metadata==8.9.0
isodate==0.7.2
jinja2==3.1.6
jmespath==1.1.0
jsonschema==4.26.0
jsonschema-specifications==2025.9.1
leather==0.4.1
lxml==6.1.3
markupsafe==3.0.4
mashumaro==3.14
more-itertools==10.8.0
msgpack==1.2.4
networkx==3.7
opentelemetry-api==1.45.2
orderly-set==5.5.0
packaging==26.3
parsedatetime==2.6
pathspec==0.12.1
protobuf==6.33.6
psycopg2-binary==2.9.13
pydantic==2.14.3
pydantic-core==2.50.4
python-dateutil==2.9.0.post0
python-slugify==9.2.0
pytimeparse==1.1.10
pytz==2026.6
pyyaml==6.0.3
redshift-connector==2.1.17
referencing==0.37.0
requests==2.34.2
rpds-py==2026.9.1
s3transfer==0.19.3
scramp==1.4.18
setuptools==84.2.1
six==1.17.0
snowplow-tracker==1.1.0
soupsieve==4.1.2
sqlparse==0.6.1
text-unidecode==1.3
typing-extensions==4.16.0
typing-inspection==0.4.5
tzdata==2026.6 ; sys_platform == 'win32'
urllib3==2.8.0
zipp==4.1.2
# pins: end
PINS
}

_dbt_install() {
    local log="${DBT_VENV_PATH}.log" pins="${DBT_VENV_PATH}.requirements.txt" checksum
    _dbt_pins >"${pins}" || { _dbt_problem="${pins} cannot be written"; return 1; }
    if [ -n "${AIRFLOW__DBT__WHEELS:-}" ]; then
        _dbt_download "${AIRFLOW__DBT__WHEELS}" "${pins}" "${PIP_FIND_LINKS}" >"${log}" 2>&1 || {
            _dbt_problem="the wheels in ${AIRFLOW__DBT__WHEELS} could not be downloaded: $(_dbt_reason "$?" "${log}")"
            return 1
        }
    fi
    checksum="$(cksum <"${pins}")"
    if [ "$(cat "${DBT_VENV_PATH}/.ready" 2>/dev/null)" = "${checksum}" ] && [ -x "${DBT_VENV_PATH}/bin/dbt" ]; then
        echo "startup.sh: dbt is ready in ${DBT_VENV_PATH}"
        return 0
    fi
    echo "startup.sh: installing dbt into ${DBT_VENV_PATH} ..."
    _dbt_before_deadline python3 -m venv --clear "${DBT_VENV_PATH}" >"${log}" 2>&1 || {
        _dbt_problem="python3 -m venv failed: $(_dbt_reason "$?" "${log}")"
        return 1
    }
    # The pins include all dependencies, so pip has nothing to resolve.
    _dbt_before_deadline "${DBT_VENV_PATH}/bin/python" -m pip install \
        --no-input --disable-pip-version-check --no-deps --requirement "${pins}" >"${log}" 2>&1 || {
        _dbt_problem="pip could not install dbt: $(_dbt_reason "$?" "${log}")"
        return 1
    }
    _dbt_before_deadline "${DBT_VENV_PATH}/bin/dbt" --version >"${log}" 2>&1 || {
        _dbt_problem="dbt is installed but does not start: $(_dbt_reason "$?" "${log}")"
        return 1
    }
    echo "${checksum}" >"${DBT_VENV_PATH}/.ready" || { _dbt_problem="${DBT_VENV_PATH} cannot be written"; return 1; }
    echo "startup.sh: dbt is ready in ${DBT_VENV_PATH}"
}

# pip then uses only the downloaded wheels, here and when MWAA installs requirements.txt.
if [ -n "${AIRFLOW__DBT__WHEELS:-}" ]; then
    export PIP_NO_INDEX=1
    export PIP_FIND_LINKS="${AIRFLOW_HOME:-/usr/local/airflow}/wheels"
fi

# The web server does not run dbt, and needs no package of requirements.txt: it parses no DAG.
if [ "${MWAA_AIRFLOW_COMPONENT:-}" != "webserver" ]; then
    if _dbt_triggerer_path 2>/dev/null; then
        export AIRFLOW__DBT__START_IN_TRIGGERER=True
    else
        echo "startup.sh: mwaa_pipelines.pth cannot be written; tasks that wait for dbt will start on workers"
    fi
    _dbt_problem=""
    rm -f "${DBT_VENV_PATH}.error" || true
    if ! _dbt_install; then
        echo "startup.sh: FAILED, dbt tasks on this container will fail: ${_dbt_problem}" | tee "${DBT_VENV_PATH}.error" >&2 || true
    fi
    unset _dbt_problem
else
    # On a private web server no package index answers. pip would wait for up to 9 minutes; now it fails within one.
    export PIP_RETRIES=0
    export PIP_DEFAULT_TIMEOUT=5
fi
unset _dbt_seconds _dbt_deadline
unset -f _dbt_before_deadline _dbt_reason _dbt_triggerer_path _dbt_download _dbt_pins _dbt_install
