"""Airflow's REST API through MWAA's InvokeRestApi, which also reaches an environment whose web server is private.

https://docs.aws.amazon.com/mwaa/latest/userguide/access-mwaa-apache-airflow-rest-api.html
"""

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from mwaa_pipelines.release import release_tag
from mwaa_release.errors import DeployError, SetupError, from_aws

_PATH_CHARACTERS = 64


def stores_release(dag: dict[str, Any], release_id: str) -> bool:
    """Whether a run that starts now builds a release.

    Airflow updates a DAG's tags whenever it parses the DAG's file, but stores the DAG, which runs start with, at most
    every 30 seconds (`core.min_serialized_dag_update_interval`). The DAG's documentation is stored with it.

    Args:
        dag: the details of the DAG from Airflow's REST API.
        release_id: as in release.json.
    """
    tags = [tag["name"] for tag in dag["tags"]]
    return release_tag(release_id) in tags and release_id in (dag["doc_md"] or "")


class AirflowApi:
    """The REST API of an environment's Airflow."""

    def __init__(self, mwaa: Any, environment: str) -> None:
        self._mwaa, self.environment = mwaa, environment

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """Call the API; None if the resource does not exist.

        Raises:
            DeployError, SetupError: AWS or Airflow refused the request; the message is theirs.
        """
        doing = f"calling Airflow of MWAA environment {self.environment} ({method} {path})"
        if len(path) > _PATH_CHARACTERS:
            raise SetupError(
                f"{doing}: MWAA takes paths of at most {_PATH_CHARACTERS} characters; shorten the DAG's name"
            )
        call = {"Name": self.environment, "Method": method, "Path": path}
        try:
            return self._mwaa.invoke_rest_api(**call, **({"Body": body} if body is not None else {}))["RestApiResponse"]
        except ClientError as error:
            status = error.response.get("RestApiStatusCode")
            if status == 404:
                return None
            if error.response["Error"]["Code"] == "ResourceNotFoundException":
                raise SetupError(
                    f"there is no MWAA environment {self.environment} in this account and Region"
                ) from error
            if status:
                raise DeployError(f"{doing}: {status}: {error.response.get('RestApiResponse')}") from error
            raise from_aws(error, doing) from error
        except BotoCoreError as error:
            raise from_aws(error, doing) from error
