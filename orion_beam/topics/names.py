"""The topics of the catalogue that comes with ORION Beam, by name."""

from collections.abc import Mapping

from orion_beam.defaults import DEVELOPMENT, PRODUCTION
from orion_beam.schemas.codes import Stage
from orion_beam.topics.catalogue import Catalogue, NamedTopic, load_catalogue

CATALOGUE: Catalogue = load_catalogue()
"""The one that comes with ORION Beam."""

VALIDATED = CATALOGUE.topics.validated
NORMALIZED = CATALOGUE.topics.normalized
ENRICHED = CATALOGUE.topics.enriched
FINAL = CATALOGUE.topics.final
DEAD_LETTERS = CATALOGUE.topics.dead_letters
AUDIT = CATALOGUE.topics.audit
FINAL_PARTITIONS = FINAL.partitions

STAGE_TOPICS: Mapping[Stage, str] = {
    Stage.VALIDATE: VALIDATED.name,
    Stage.NORMALIZE: NORMALIZED.name,
    Stage.ENRICH: ENRICHED.name,
}
"""The topic that a stage's output may be published to, and a chain may start from."""


def raw_topic(country: str) -> NamedTopic:
    """Return the topic to which a country's operators send."""
    return CATALOGUE.raw_topic(country)


def profile_for(brokers: int) -> str:
    """Return the profile that a local cluster of so many brokers can keep."""
    return PRODUCTION if brokers >= CATALOGUE.profile(PRODUCTION).replication else DEVELOPMENT
