"""`;`-separated records: FR with exactly eight fields, MA with up to seven of which trailing ones may be missing."""

from schemas.raw import RawFormat
from transforms.decoders import Decoded, Decoder
from transforms.payloads import Payloads
from transforms.texts import Mask

_FR_FIELDS = ("imsi", "msisdn", "imei", "cell_id", "rat", "bytes_up", "bytes_down", "event_time")
_MA_FIELDS = ("imsi", "msisdn", "cell_id", "rat", "bytes_up", "bytes_down", "event_time")


def decode_fr(payloads: Payloads) -> Decoded:
    """Read FR records: fewer or more than eight fields means that some are not what their place says."""
    fields, separators = payloads.split(b";", len(_FR_FIELDS))
    return Decoded(dict(zip(_FR_FIELDS, fields, strict=True)), separators != len(_FR_FIELDS) - 1)


def decode_ma(payloads: Payloads) -> Decoded:
    """Read MA records: trailing fields that are not there are null."""
    fields, separators = payloads.split(b";", len(_MA_FIELDS))
    return Decoded(dict(zip(_MA_FIELDS, fields, strict=True)), separators >= len(_MA_FIELDS))


def _claims(payloads: Payloads) -> Mask:
    return payloads.hold(b";")


FR_SEMICOLON = Decoder(RawFormat.FR_SEMICOLON, _claims, decode_fr, ";".join(_FR_FIELDS))
MA_SEMICOLON = Decoder(RawFormat.MA_SEMICOLON, _claims, decode_ma, ";".join(_MA_FIELDS))
