"""Validation with the published schemas of Kubernetes, of its operators, and of Compose."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

TESTDATA = Path(__file__).parents[2] / "testdata" / "deploy"
_SCHEMAS = TESTDATA / "schemas"
_OF_OPERATORS = {
    "FlinkDeployment": "flinkdeployments",
    "PodMonitor": "podmonitors",
    "ServiceMonitor": "servicemonitors",
    "PrometheusRule": "prometheusrules",
}


def problems_of(resource: dict[str, Any]) -> list[str]:
    """Return what is wrong with a resource of Kubernetes, each with its place."""
    errors = _validator(resource["apiVersion"], resource["kind"]).iter_errors(resource)
    return [f"{resource['kind']}{error.json_path.removeprefix('$')}: {error.message}" for error in errors]


def problems_of_compose(content: dict[str, Any]) -> list[str]:
    """Return what is wrong with a compose file, each with its place."""
    schema = json.loads(gzip.decompress((_SCHEMAS / "compose-spec.json.gz").read_bytes()))
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(content)]


@cache
def _validator(api_version: str, kind: str) -> Draft202012Validator:
    if kind not in _OF_OPERATORS:
        return Draft202012Validator(_kubernetes() | {"$ref": f"#/$defs/{_definition(api_version, kind)}"})
    text = gzip.decompress((_SCHEMAS / f"{_OF_OPERATORS[kind]}.yaml.gz").read_bytes())
    published = yaml.safe_load(text)["spec"]
    schema = next(
        _strict(version["schema"]["openAPIV3Schema"])
        for version in published["versions"]
        if f"{published['group']}/{version['name']}" == api_version
    )
    # Kubernetes itself checks these.
    schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}
    return Draft202012Validator(schema)


@cache
def _kubernetes() -> dict[str, Any]:
    return json.loads(gzip.decompress((_SCHEMAS / "kubernetes-1.31.json.gz").read_bytes()))


def _definition(api_version: str, kind: str) -> str:
    group, _, version = api_version.rpartition("/")
    wanted = {"group": group, "kind": kind, "version": version}
    return next(
        name
        for name, schema in _kubernetes()["$defs"].items()
        if wanted in schema.get("x-kubernetes-group-version-kind", ())
    )


def _strict(schema: Any) -> Any:
    """Return a schema that refuses fields which it does not name. Kubernetes would silently drop them."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _strict(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not (
        "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    ):
        made["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    return made
