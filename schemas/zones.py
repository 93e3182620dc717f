"""Time zones by their IANA names, and what to do on a machine that knows none."""

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

NO_ZONES = (
    "this machine has no time zone database: install the system's package tzdata, or `pip install tzdata` for the"
    " Python that runs this, on every machine that runs workers"
)


def zone_of(name: str) -> ZoneInfo:
    """Return the time zone of a name.

    Raises:
        ZoneInfoNotFoundError: there is none; where this machine knows none at all, it says what to install.
    """
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError:
        if available_timezones():
            raise
        raise ZoneInfoNotFoundError(NO_ZONES) from None
