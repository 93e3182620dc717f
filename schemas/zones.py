"""Time zones by IANA name, and the error message for a machine without a time zone database."""

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

NO_ZONES = (
    "this machine has no time zone database: install the system's package tzdata, or `pip install tzdata` for the"
    " Python that runs this, on every machine that runs workers"
)


def zone_of(name: str) -> ZoneInfo:
    """Return the time zone with an IANA name.

    Raises:
        ZoneInfoNotFoundError: There is none. On a machine without time zones the message names the package to install.
    """
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError:
        if available_timezones():
            raise
        raise ZoneInfoNotFoundError(NO_ZONES) from None
