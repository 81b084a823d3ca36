"""Writes JSON schemas for kubeconform: those of Kubernetes from its OpenAPI document, those of the Prometheus Operator from its CRDs.

Both come from Go modules, because no other kind of package has them. The schemas reject unknown fields, as the strict validation of
the API server does.

    schemas.py OUTPUT_DIRECTORY
"""
import json
import pathlib
import subprocess
import sys

KUBERNETES = "k8s.io/kubernetes@v1.36.3"
PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"


def module(name: str) -> pathlib.Path:
    """The folder with the module's files; downloads them if they are missing."""
    done = subprocess.run(["go", "mod", "download", "-json", name], capture_output=True, text=True, check=True, cwd="/")
    return pathlib.Path(json.loads(done.stdout)["Dir"])


def strict(schema: object) -> object:
    """The schema, changed so that objects reject unlisted properties, and with JSON types for Kubernetes' formats."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if closed.get("format") == "int-or-string" or closed.get("x-kubernetes-int-or-string") is True:
        closed = {"type": ["string", "integer"]}
    if isinstance(closed.get("properties"), dict) and "additionalProperties" not in closed:
        closed["additionalProperties"] = False
    return closed


def kubernetes(out: pathlib.Path) -> None:
    """Writes one file with all definitions, and one file for each kind that refers to it."""
    definitions = json.loads((module(KUBERNETES) / "api/openapi-spec/swagger.json").read_text())["definitions"]
    # A quantity can be a string or a number.
    definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {"type": ["string", "number"]}
    open_ended = ("JSONSchemaProps", "FieldsV1", "JSON", "RawExtension")
    closed = {name: schema if name.endswith(open_ended) else strict(schema) for name, schema in definitions.items()}
    (out / "definitions.json").write_text(json.dumps({"definitions": closed}))
    for name, schema in definitions.items():
        for kind in schema.get("x-kubernetes-group-version-kind", []):
            reference = {"$ref": f"definitions.json#/definitions/{name}"}
            # kubeconform uses the version as the group of the core API.
            group = kind["group"] or kind["version"]
            (out / f"{kind['kind'].lower()}-{group}-{kind['version']}.json").write_text(json.dumps(reference))


def prometheus_operator(out: pathlib.Path) -> None:
    """Writes the schemas of the three kinds that the chart can render."""
    crds = module(PROMETHEUS_OPERATOR) / "jsonnet/prometheus-operator"
    for plural in ("servicemonitors", "podmonitors", "prometheusrules"):
        crd = json.loads((crds / f"{plural}-crd.json").read_text())
        group, kind = crd["spec"]["group"], crd["spec"]["names"]["kind"].lower()
        for version in crd["spec"]["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            (out / f"{kind}-{group}-{version['name']}.json").write_text(json.dumps(schema))


def main() -> None:
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    kubernetes(out)
    prometheus_operator(out)
    (out / ".done").touch()


if __name__ == "__main__":
    main()
