"""Read a JSON secret of AWS Secrets Manager, such as the dbt user's `{"username": …, "password": …}`."""

import json
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from mwaa_release.errors import SetupError, from_aws


def read_secret(secretsmanager: Any, name: str, *keys: str) -> dict[str, Any]:
    """Return the content of a secret.

    Args:
        secretsmanager: boto3 client.
        name: name of the secret.
        keys: keys that the secret must have.

    Raises:
        SetupError: the secret is not JSON with these keys.
        DeployError: the secret cannot be read.
    """
    try:
        content = json.loads(secretsmanager.get_secret_value(SecretId=name)["SecretString"])
        return {key: content[key] for key in keys} | content
    except (BotoCoreError, ClientError) as error:
        raise from_aws(error, f"reading the secret {name}") from error
    except (ValueError, KeyError, TypeError):
        # Without the cause, which contains the secret.
        raise SetupError(f"secret {name} must be JSON with {' and '.join(keys)}") from None


def read_login(secretsmanager: Any, name: str) -> tuple[str, str]:
    """Return the username and password of a database user's secret.

    Raises:
        SetupError: the secret is not JSON with username and password.
        DeployError: the secret cannot be read.
    """
    login = read_secret(secretsmanager, name, "username", "password")
    return login["username"], login["password"]
