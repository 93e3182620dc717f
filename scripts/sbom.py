"""Write the software bill of materials (CycloneDX 1.6, JSON) of what the product runs with: `make sbom`.

python -m scripts.sbom [FILE]    by default out/sbom.cdx.json

The same lock and the same list of jars give the same file: it holds no time and no random number.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component as CycloneComponent
from cyclonedx.model.component import ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from orion_beam import __version__
from scripts.components import MAVEN, ROOT, Component, runtime_components

OUTPUT = ROOT / "out" / "sbom.cdx.json"
_CHANGING = ("serialNumber", "timestamp", "tools")


def bom_of(components: Iterable[Component]) -> str:
    """Return the bill of materials in JSON."""
    product = CycloneComponent(
        name="orion-beam",
        version=__version__,
        type=ComponentType.APPLICATION,
        purl=PackageURL("pypi", name="orion-beam", version=__version__),
        bom_ref="orion-beam",
    )
    parts = [_component(each) for each in components]
    bom = Bom(components=parts)
    bom.metadata.component = product
    bom.register_dependency(product, parts)
    found = json.loads(JsonV1Dot6(bom).output_as_string())
    for place in (found, found["metadata"]):
        for name in _CHANGING:
            place.pop(name, None)
    return json.dumps(found, indent=2, sort_keys=True) + "\n"


def _component(component: Component) -> CycloneComponent:
    group, _, name = component.name.rpartition(":")
    purl = PackageURL(component.kind, group or None, name, component.version)
    return CycloneComponent(
        name=name,
        group=group if component.kind == MAVEN else None,
        version=component.version,
        type=ComponentType.LIBRARY,
        purl=purl,
        bom_ref=purl.to_string(),
        licenses=[DisjunctiveLicense(name=licence) for licence in component.licences],
        # A lock has a digest for each platform, a jar has one.
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in component.sha256],
    )


def main() -> None:
    """Run the command."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    components = runtime_components()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(bom_of(components), encoding="utf-8")
    print(f"{len(components)} components written to {path}")


if __name__ == "__main__":
    main()
