"""A real S3-compatible server with one user, whose access key is in a file as AWS's tools read it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import requests
from moto.iam.access_control import IAMRequestBase
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from orion_beam.runners.local.broker import HOST

REGION = "us-east-1"
_POLICY = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
_TIMEOUT_S = 600


@dataclass(frozen=True)
class S3:
    """The server.

    Attributes:
        endpoint: URL of the server.
        bucket: A bucket of the user's.
        credentials: File with the user's access key, as in `~/.aws/credentials`.
        client: The user's client.
    """

    endpoint: str
    bucket: str
    credentials: Path
    client: Any

    def keys(self, prefix: str) -> list[str]:
        """Return the names of the objects below a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


@contextmanager
def s3_in(directory: Path) -> Iterator[S3]:
    """Yield a server that refuses every request without the user's access key, which is in a file in `directory`.

    It does not check signatures: moto calculates them without the header `User-Agent`, which Java's client signs.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # The server logs each request.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    without_signatures = patch.object(IAMRequestBase, "check_signature")
    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    server.start()
    try:
        without_signatures.start()
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"

        def client(service: str, key: str, secret: str) -> Any:
            return boto3.client(
                service,
                endpoint_url=endpoint,
                region_name=REGION,
                aws_access_key_id=key,
                aws_secret_access_key=secret,
            )

        iam = client("iam", "nobody", "nothing")
        iam.create_user(UserName="orion")
        iam.put_user_policy(UserName="orion", PolicyName="s3", PolicyDocument=_POLICY)
        key = iam.create_access_key(UserName="orion")["AccessKey"]
        _check_logins(endpoint, "0")
        credentials = directory / "credentials"
        credentials.write_text(
            f"[default]\naws_access_key_id = {key['AccessKeyId']}\naws_secret_access_key = {key['SecretAccessKey']}\n"
        )
        credentials.chmod(0o600)
        s3 = client("s3", key["AccessKeyId"], key["SecretAccessKey"])
        s3.create_bucket(Bucket="orion")
        yield S3(endpoint, "orion", credentials, s3)
    finally:
        _check_logins(endpoint, "Infinity")
        without_signatures.stop()
        server.stop()


def _check_logins(endpoint: str, after: str) -> None:
    """Have the server check the logins of requests, after a number of them."""
    requests.post(f"{endpoint}/moto-api/reset-auth", data=after, timeout=_TIMEOUT_S).raise_for_status()
