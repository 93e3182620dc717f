"""Short pipe text: `imsi|msisdn|event_type|duration|bytes_up|bytes_down`, from any country."""

from schemas.raw import RawFormat
from transforms.decoders import Decoded, Decoder
from transforms.payloads import Payloads
from transforms.texts import Mask

_FIELDS = ("imsi", "msisdn", "event_type", "duration_s", "bytes_up", "bytes_down")


def decode(payloads: Payloads) -> Decoded:
    """Read pipe text of exactly six fields."""
    fields, separators = payloads.split(b"|", len(_FIELDS))
    return Decoded(dict(zip(_FIELDS, fields, strict=True)), separators != len(_FIELDS) - 1)


def _claims(payloads: Payloads) -> Mask:
    return payloads.hold(b"|")


PIPE_TEXT = Decoder(RawFormat.PIPE_TEXT, _claims, decode, "imsi|msisdn|event_type|duration|bytes_up|bytes_down")
