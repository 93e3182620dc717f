"""The profile of a country. Each country has one TOML file, which is validated when it is loaded."""

from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from orion_beam.schemas.codes import Severity
from orion_beam.schemas.raw_formats.declaration import FormatDeclaration
from orion_beam.schemas.zones import NO_ZONES, zone_of

__all__ = ["CountryProfile", "Operator", "TOPIC_PATTERN", "Town"]

TOPIC_PATTERN = r"^[a-zA-Z0-9._-]{1,149}$"
"""A topic's name without the prefix of its environment: Kafka allows 249 characters, and a prefix has 100 at most."""

CountryCode = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
Plmn = Annotated[str, Field(pattern=r"^[0-9]{5,6}$")]


KeyField = Literal[
    "imsi", "msisdn", "imei", "event_type", "event_time", "peer_msisdn", "duration_s", "bytes_up", "bytes_down",
    "message_length", "charging_id", "cell_id", "rat", "apn", "call_type", "sms_type", "node_id",
    "local_sequence_number", "record_sequence_number", "cause_for_record_closing",
]  # fmt: skip


class Operator(BaseModel):
    """A mobile operator of the country and the PLMNs (MCC and MNC) of its subscribers' IMSIs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    plmns: tuple[Plmn, ...] = Field(min_length=1)


class Town(BaseModel):
    """A town of the country, around which generated CDRs have their cells: a row of CODE.towns.csv."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: str = Field(pattern=r"^[A-Z0-9]{3}$", description="three letters or digits, in the names of its cells")
    place: str = Field(min_length=1, description="name of the town")
    lat: float | None = Field(default=None, ge=-90, le=90, description="latitude of its centre, in degrees (WGS 84)")
    lon: float | None = Field(default=None, ge=-180, le=180, description="longitude, likewise")
    weight: float = Field(default=1, gt=0, description="size, such as thousands of inhabitants")


class CountryProfile(BaseModel):
    """One country: topic, numbering, time zone, raw formats, operators, usual roaming partners."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: CountryCode = Field(description="ISO 3166-1 alpha-2")
    name: str = Field(description="for people")
    topic: str = Field(pattern=TOPIC_PATTERN, description="the raw topic, without the environment's prefix")
    is_default: bool = Field(default=False, description="commands that name no country mean this one, among others")
    mccs: tuple[Annotated[str, Field(pattern=r"^[0-9]{3}$")], ...] = Field(min_length=1, description="ITU-T E.212")
    calling_code: str = Field(pattern=r"^[1-9][0-9]{0,2}$", description="ITU-T E.164")
    trunk_prefix: str | None = Field(default=None, pattern=r"^[0-9]$", description="dialled before a national number")
    national_digits: int = Field(description="length of a national significant number", ge=5, le=12)
    mobile_prefixes: tuple[Annotated[str, Field(pattern=r"^[0-9]{1,6}$")], ...] = Field(
        default=(), description="first digits of mobile numbers, for generated CDRs; made up if none"
    )
    overseas_calling_codes: tuple[Annotated[str, Field(pattern=r"^[1-9][0-9]{0,2}$")], ...] = Field(
        default=(), description="of territories whose numbers are dialled, and written, as the country's own"
    )
    time_zone: str = Field(description="IANA")
    twelve_digit_times: Literal["YYMMDDhhmmss", "YYYYMMDDhhmm"] | None = Field(
        default=None,
        description="how to read an event time of twelve digits; by default as milliseconds since the epoch",
    )
    formats: tuple[str, ...] = Field(
        description="names of raw formats, besides flat JSON and pipe text, which every country may send"
    )
    operators: tuple[Operator, ...] = Field(description="tables of `name` and `plmns`, the MCC and MNC of their IMSIs")
    usual_roaming_countries: tuple[CountryCode, ...] = Field(description="the home region's usual partners")
    late_after_s: int = Field(
        default=2 * 86_400, gt=0, description="age at which a CDR that arrives is late, in seconds"
    )
    duplicate_key: tuple[KeyField, ...] = Field(
        default=(
            "imsi", "event_type", "event_time", "peer_msisdn", "duration_s", "bytes_up", "bytes_down", "message_length",
            "charging_id", "node_id", "local_sequence_number", "record_sequence_number",
        ),
        min_length=1,
        description="the natural key: fields that two CDRs share only if they report the same event",
    )  # fmt: skip
    rules: tuple[tuple[str, Severity], ...] = Field(
        default=(), description="a table of rule id to severity, see `orion-beam rules`"
    )

    declared_formats: tuple[FormatDeclaration, ...] = Field(
        default=(), description="formats of the user's own among `formats`, filled from their files"
    )

    @field_validator("rules", mode="before")
    @classmethod
    def _pairs_of_table(cls, rules: object) -> object:
        # A profile must be hashable, so it cannot hold a dict.
        return tuple(rules.items()) if isinstance(rules, dict) else rules

    @field_validator("mobile_prefixes")
    @classmethod
    def _leaves_digits(cls, prefixes: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for prefix in prefixes:
            if len(prefix) >= info.data.get("national_digits", len(prefix) + 1):
                raise ValueError(f"{prefix} is as long as a whole national number")
        return prefixes

    @field_validator("time_zone")
    @classmethod
    def _zone_exists(cls, zone: str) -> str:
        zones = available_timezones()
        if zone not in zones:
            raise ValueError("is no IANA time zone, such as Europe/Paris" if zones else NO_ZONES)
        return zone

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of local times."""
        return zone_of(self.time_zone)
