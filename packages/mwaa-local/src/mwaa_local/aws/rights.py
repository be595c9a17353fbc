"""Finds the IAM permissions that a call needs: actions, resources and condition keys.

The tables list actions whose name differs from the operation's, and the resources of a service. A call that no table
lists needs its action on the resource `*`, so only a statement for all resources allows it.
https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
"""

from collections.abc import Callable
from typing import Any

from moto.backends import get_backend
from moto.s3.models import FakeKey

from mwaa_local.aws.calls import Call
from mwaa_local.settings import ACCOUNT_ID, REGION
from mwaa_release.policies import Right, Statement, statements

# A call needs all permissions of the outer list, and one of each inner list.
Rights = list[list[Right]]

_S3_ACTIONS = {
    "HeadObject": "GetObject",
    "HeadBucket": "ListBucket",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "ListBuckets": "ListAllMyBuckets",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListParts": "ListMultipartUploadParts",
    "CopyObject": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "UploadPartCopy": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "GetBucketNotificationConfiguration": "GetBucketNotification",
    "PutBucketNotificationConfiguration": "PutBucketNotification",
}
_VERSIONED = {"GetObject": "GetObjectVersion", "DeleteObject": "DeleteObjectVersion"}
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
_KMS_OF_S3 = {
    "GetObject": ("Decrypt",),
    "PutObject": ("GenerateDataKey",),
    "CopyObject": ("Decrypt", "GenerateDataKey"),
    **dict.fromkeys(
        ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"),
        ("GenerateDataKey", "Decrypt"),
    ),
}
# https://docs.aws.amazon.com/mwaa/latest/userguide/access-policies.html
_AIRFLOW_ROLES = ("User", "Op", "Admin", "Viewer", "Public")
_SERVERLESS = "airflow-serverless.amazonaws.com"
_ACTIONS = {"lambda:Invoke": "lambda:InvokeFunction", "lambda:InvokeAsync": "lambda:InvokeFunction"}


def rights(call: Call, account: str) -> Rights:
    """Return the permissions that a caller of `account` needs for a call."""
    action = f"{call.service}:{call.operation}"
    if call.service == "s3":
        return [[right] for right in _s3(call)]
    if action == "sts:GetCallerIdentity":
        return []
    if action == "airflow:InvokeRestApi":
        where = f"arn:aws:airflow:{call.region}:{account}:role/{call.parameters['Name']}"
        return [[Right(action, f"{where}/{role}") for role in _AIRFLOW_ROLES]]
    find = _RESOURCES.get(call.service)
    resources = find(call, account) if find else ["*"]
    context = _CONTEXTS.get(action, lambda _: {})(call.parameters)
    needed = [[Right(_ACTIONS.get(action, action), resource, context)] for resource in resources]
    return needed + [[right] for right in _FURTHER.get(action, lambda *_: [])(call, account)]


def role(arn: str) -> Any:
    """Return moto's role, or None if it does not exist."""
    account = arn.split(":")[4] if arn.count(":") > 4 else ""
    known = get_backend("iam")[account]["aws"].roles.values() if account.isdigit() else ()
    return next((role for role in list(known) if role.arn == arn), None)


def own_policy(resource: str) -> tuple[list[Statement] | None, str | None]:
    """Return the policy of a resource, and the resource's account. Both are None if unknown."""
    _, _, service, region, account, name = (*resource.split(":", 5), "", "", "", "", "", "")[:6]
    try:
        if service == "s3":
            bucket = _bucket(name.partition("/")[0])
            return (statements(bucket.policy.decode()) if bucket.policy else None), bucket.account_id
        if service == "kms":
            key = get_backend("kms")[account][region].describe_key(name.removeprefix("key/"))
            return statements(key.policy), account
        if service == "secretsmanager":
            secret = get_backend("secretsmanager")[account][region].secrets[resource]
            return (statements(secret.policy) if secret.policy else None), account
        if service == "lambda":
            function = get_backend("lambda")[account][region].get_function(resource)
            return (function.policy.statements or None), account
        if service == "iam" and name.startswith("role/"):
            # A missing role has no trust policy.
            existing = role(resource)
            return (statements(existing.assume_role_policy_document) if existing else []), account
    except Exception:  # noqa: BLE001 - moto's "not found" errors have no common class
        return None, account or None
    return None, account or None


def _s3(call: Call) -> list[Right]:
    parameters, operation = call.parameters, call.operation
    bucket = parameters.get("Bucket", "")
    if not bucket:
        return [Right(f"s3:{_S3_ACTIONS.get(operation, operation)}", "*")]
    arn = f"arn:aws:s3:::{bucket}"
    action = _S3_ACTIONS.get(operation, operation)
    context = {"s3:prefix": parameters.get("Prefix", "")} if action == "ListBucket" else {}
    if operation == "DeleteObjects":
        needed = [
            Right("s3:DeleteObjectVersion" if item.get("VersionId") else "s3:DeleteObject", f"{arn}/{item['Key']}")
            for item in parameters["Delete"]["Object"]
        ]
    else:
        if "VersionId" in parameters:
            action = _VERSIONED.get(action, action)
        resource = f"{arn}/{parameters['Key']}" if "Key" in parameters else arn
        needed = [Right(f"s3:{action}", resource, context)]
    if "CopySource" in parameters:
        source, _, version = parameters["CopySource"].lstrip("/").partition("?versionId=")
        needed.append(Right("s3:GetObjectVersion" if version else "s3:GetObject", f"arn:aws:s3:::{source}"))
    # S3 answers 404 for a missing object only to callers with s3:ListBucket.
    # https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    if operation in ("GetObject", "HeadObject") and not _object_exists(bucket, parameters["Key"]):
        needed.append(Right("s3:ListBucket", arn))
    kinds = _KMS_OF_S3.get(operation, ())
    # S3 decrypts the object to return its checksum.
    # https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
    if operation == "HeadObject" and "ChecksumMode" in parameters:
        kinds = ("Decrypt",)
    return needed + (_kms(_key_of(bucket), kinds, "s3", call.region) if kinds else [])


def _bucket(name: str) -> Any:
    backends = get_backend("s3")
    partition, account = backends.bucket_accounts[name]
    return backends[account][partition].get_bucket(name)


def _object_exists(bucket: str, key: str) -> bool:
    try:
        return key in (keys := _bucket(bucket).keys) and isinstance(keys[key], FakeKey)
    except KeyError:
        return False


def _key_of(bucket: str) -> str | None:
    """Return the KMS key of a bucket's default encryption."""
    try:
        rule = (_bucket(bucket).encryption or {})["Rule"]
    except KeyError:
        return None
    return rule["ApplyServerSideEncryptionByDefault"].get("KMSMasterKeyID")


def _kms(key: str | None, kinds: tuple[str, ...], service: str, region: str) -> list[Right]:
    """Return the permissions for a key that a service uses on behalf of the caller."""
    if not key or key.startswith("alias/aws/"):
        return []
    context = {"kms:ViaService": f"{service}.{region}.amazonaws.com"}
    return [Right(f"kms:{kind}", key, context) for kind in kinds]


def _secret(call: Call, account: str) -> list[str]:
    name = call.parameters.get("SecretId", "*")
    store = get_backend("secretsmanager")[account][call.region].secrets
    arn = f"arn:aws:secretsmanager:{call.region}:{account}:secret:{name}"
    return [store[name].arn if name in store else name if name.startswith("arn:") else arn]


def _key_of_secret(call: Call, account: str) -> list[Right]:
    store = get_backend("secretsmanager")[account][call.region].secrets
    name = call.parameters.get("SecretId", "")
    key = store[name].kms_key_id if name in store else None
    return _kms(key, ("Decrypt",), "secretsmanager", call.region)


def _function(call: Call, account: str) -> list[str]:
    name = call.parameters.get("FunctionName", "*").rpartition(":function:")[2]
    if qualifier := call.parameters.get("Qualifier"):
        name += f":{qualifier}"
    return [f"arn:aws:lambda:{call.region}:{account}:function:{name}"]


def _queue(call: Call, account: str) -> list[str]:
    owner, _, name = call.parameters.get("QueueUrl", "").rpartition("/")
    name = name or call.parameters.get("QueueName", "*")
    return [f"arn:aws:sqs:{call.region}:{owner.rpartition('/')[2] or account}:{name}"]


def _environment(call: Call, account: str) -> list[str]:
    name = call.parameters.get("Name")
    return [f"arn:aws:airflow:{call.region}:{account}:environment/{name}" if name else "*"]


def _login(call: Call, account: str) -> list[str]:
    parameters = call.parameters
    if not call.operation.startswith("GetClusterCredentials"):
        return ["*"]
    where = f"arn:aws:redshift:{call.region}:{account}"
    cluster = parameters.get("ClusterIdentifier", "*")
    resources = [f"{where}:dbuser:{cluster}/{parameters['DbUser']}"] if "DbUser" in parameters else []
    if "DbName" in parameters:
        resources.append(f"{where}:dbname:{cluster}/{parameters['DbName']}")
    return resources or ["*"]


def _warehouse(call: Call, account: str) -> list[str]:
    """Only ExecuteStatement has a resource: a workgroup's ARN contains its id, which its name does not tell."""
    if workgroup := call.parameters.get("WorkgroupName"):
        arn = f"arn:aws:redshift-serverless:{call.region}:{account}:workgroup/{workgroup}"
        return [workgroup if workgroup.startswith("arn:") else arn]
    if cluster := call.parameters.get("ClusterIdentifier"):
        return [f"arn:aws:redshift:{call.region}:{account}:cluster:{cluster}"]
    return ["*"]


def _secret_of_statement(call: Call, account: str) -> list[Right]:
    """The Data API reads the secret with the caller's permissions."""
    read = Call("secretsmanager", "GetSecretValue", {"SecretId": call.parameters.get("SecretArn", "*")}, call.region)
    return [right for alternatives in rights(read, account) for right in alternatives]


def _further_user(call: Call, account: str) -> list[Right]:
    creates_user = call.parameters.get("AutoCreate", "").lower() == "true"
    return [Right("redshift:CreateClusterUser", _login(call, account)[0])] if creates_user else []


def _files_of_environment(call: Call, _account: str) -> list[Right]:
    """MWAA reads the object versions of an update with the caller's permissions."""
    paths = [call.parameters.get(f"{name}S3Path") for name in ("Requirements", "StartupScript", "Plugins")]
    bucket = call.parameters.get("SourceBucketArn", "")
    return [Right("s3:GetObjectVersion", f"{bucket}/{path}") for path in paths if path and bucket]


def _encrypted_topic(call: Call, account: str) -> list[Right]:
    topics = get_backend("sns")[account][call.region].topics
    topic = topics.get(call.parameters.get("TopicArn", ""))
    key = topic.kms_master_key_id if topic else None
    return _kms(key, ("GenerateDataKey", "Decrypt"), "sns", call.region)


def task_definition(name: str, account: str, region: str) -> dict[str, Any]:
    """Return a task definition of ECS by name or ARN; without a revision the newest one. Empty if there is none."""
    try:
        definition = get_backend("ecs")[account][region].describe_task_definition(name)
    except Exception:  # noqa: BLE001 - moto's "not found" errors have no common class
        return {}
    return {
        "taskDefinitionArn": definition.arn,
        "containerDefinitions": definition.container_definitions,
        "cpu": definition.cpu,
        "memory": definition.memory,
        "taskRoleArn": definition.task_role_arn,
        "executionRoleArn": definition.execution_role_arn,
    }


def _ecs(call: Call, account: str) -> list[str]:
    parameters, where = call.parameters, f"arn:aws:ecs:{call.region}:{account}"
    if call.operation == "RunTask":
        name = parameters.get("taskDefinition", "*")
        # IAM sees the newest revision if the request names none.
        return [task_definition(name, account, call.region).get("taskDefinitionArn", f"{where}:task-definition/{name}")]
    if call.operation in ("DescribeTasks", "StopTask"):
        names = parameters.get("tasks") or [parameters.get("task", "*")]
        cluster = parameters.get("cluster", "default").rpartition("/")[2]
        return [name if name.startswith("arn:") else f"{where}:task/{cluster}/{name}" for name in names]
    return ["*"]


def _of_cluster(parameters: dict[str, Any]) -> dict[str, str]:
    cluster = parameters.get("cluster", "default").rpartition("/")[2]
    return {"ecs:cluster": f"arn:aws:ecs:{REGION}:{ACCOUNT_ID}:cluster/{cluster}"}


def _passed_roles(call: Call, account: str) -> list[Right]:
    """ECS takes roles only from a caller that can pass them."""
    definition = task_definition(call.parameters.get("taskDefinition", ""), account, call.region)
    roles = {**definition, **call.parameters.get("overrides", {})}
    context = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
    return [
        Right("iam:PassRole", roles[name], context) for name in ("taskRoleArn", "executionRoleArn") if name in roles
    ]


def _workflow(call: Call, account: str) -> list[str]:
    return [call.parameters.get("WorkflowArn") or "*"]


def _role_of_workflow(call: Call, account: str) -> list[Right]:
    """MWAA Serverless takes a role only from a caller that can pass it."""
    context = {"iam:PassedToService": _SERVERLESS}
    return [Right("iam:PassRole", call.parameters.get("RoleArn", "*"), context)]


def _new_workflow(call: Call, account: str) -> list[Right]:
    """The first workflow of an account creates the service's role, and each one a grant of its key."""
    key = call.parameters.get("EncryptionConfiguration", {}).get("KmsKeyId")
    needed = _kms(key, ("CreateGrant", "Decrypt", "GenerateDataKey"), "airflow-serverless", call.region) if key else []
    arn = f"arn:aws:airflow-serverless:{call.region}:{account}:workflow/{call.parameters.get('Name')}-0123456789"
    needed = [Right(right.action, right.resource, {**right.context, **workflow_key_context(arn)}) for right in needed]
    path = f"/aws-service-role/{_SERVERLESS}/"
    if not any(existing.path == path for existing in list(get_backend("iam")[account]["aws"].roles.values())):
        service_role = f"arn:aws:iam::{account}:role{path}AWSServiceRoleForAmazonMWAAServerless"
        needed.append(Right("iam:CreateServiceLinkedRole", service_role, {"iam:AWSServiceName": _SERVERLESS}))
    return _role_of_workflow(call, account) + needed


def workflow_key_context(arn: str) -> dict[str, str]:
    """Return the condition key of requests to KMS about the data of a workflow."""
    return {"kms:EncryptionContext:aws:airflow-serverless:workflow-arn": arn}


def _encryption_context(parameters: dict[str, Any]) -> dict[str, str]:
    return {f"kms:EncryptionContext:{name}": value for name, value in parameters.get("EncryptionContext", {}).items()}


def _parameter(call: Call, account: str) -> list[str]:
    name = call.parameters.get("Name", "*").lstrip("/")
    return [f"arn:aws:ssm:{call.region}:{account}:parameter/{name}"]


def _iam(call: Call, account: str) -> list[str]:
    parameters = call.parameters
    for name in ("PolicySourceArn", "OpenIDConnectProviderArn", "PolicyArn"):
        if name in parameters:
            return [parameters[name]]
    return [f"arn:aws:iam::{account}:role/{parameters['RoleName']}" if "RoleName" in parameters else "*"]


def _of(name: str) -> Callable[[Call, str], list[str]]:
    return lambda call, _account: [call.parameters.get(name) or "*"]


_RESOURCES: dict[str, Callable[[Call, str], list[str]]] = {
    "secretsmanager": _secret,
    "lambda": _function,
    "sqs": _queue,
    "airflow": _environment,
    "redshift": _login,
    "redshift-data": _warehouse,
    "iam": _iam,
    "ecs": _ecs,
    "airflow-serverless": _workflow,
    "ssm": _parameter,
    "sns": _of("TopicArn"),
    "sts": _of("RoleArn"),
    "kms": _of("KeyId"),
}
_CONTEXTS: dict[str, Callable[[dict[str, Any]], dict[str, str]]] = {
    "sts:AssumeRole": lambda parameters: (
        {"sts:ExternalId": parameters["ExternalId"]} if "ExternalId" in parameters else {}
    ),
    "ecs:RunTask": _of_cluster,
    "ecs:ListTasks": _of_cluster,
    "kms:Decrypt": _encryption_context,
    "kms:GenerateDataKey": _encryption_context,
}
_FURTHER: dict[str, Callable[[Call, str], list[Right]]] = {
    "secretsmanager:GetSecretValue": _key_of_secret,
    "airflow:UpdateEnvironment": _files_of_environment,
    "sns:Publish": _encrypted_topic,
    "ecs:RunTask": _passed_roles,
    "airflow-serverless:CreateWorkflow": _new_workflow,
    "airflow-serverless:UpdateWorkflow": _role_of_workflow,
    "redshift:GetClusterCredentials": _further_user,
    "redshift-data:ExecuteStatement": _secret_of_statement,
}
