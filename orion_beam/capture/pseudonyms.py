"""Pseudonyms: other numbers that look and behave like the subscribers' real ones.

The prefix that names the network stays. The digits after it are encrypted with FF1, the mode of AES that keeps the
format (NIST SP 800-38G). So two numbers never become one, a number gets
the same pseudonym wherever it stands, and nobody can reverse it without the key. Properties that our rules check stay
as they were: whether a check digit is right, and whether a numbering plan assigns the number.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import chain, islice

import phonenumbers
import pyarrow as pa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from ffx import FF1

from orion_beam.schemas.country import CountryProfile
from orion_beam.transforms.rules.networks import are_assigned, home_networks, mobile_country_codes
from orion_beam.transforms.rules.plausibility import is_plausible

_AES_KEY_BYTES = 32
_LEAST_DIGITS = 6
"""Fewest digits to encrypt: FF1 needs a million values or more (draft of SP 800-38G revision 1)."""

_WALKS = tuple(2**power for power in range(9))
_TAC_DIGITS, _SERIAL_DIGITS = 8, 6
_KEPT_OF_OTHERS, _PIECE = 3, 30
_SHORTEST_NUMBER = 10
_SHORTEST_IN_NUMBER_FIELD = 7
_IMSI, _IMEI = re.compile(r"[0-9]{14,15}"), re.compile(r"[0-9]{14,16}")
_NUMBER = re.compile(r"(\+|00)?([0-9]{10,15})")


class Pseudonyms:
    """Makes pseudonyms for the records of one country."""

    def __init__(self, key: bytes, profile: CountryProfile) -> None:
        """Derive the AES key from a key of any length; the country's numbering tells the forms of a number apart."""
        info = b"orion-beam pseudonyms"
        self._cipher = FF1(HKDF(SHA256(), _AES_KEY_BYTES, salt=None, info=info).derive(key), radix=10)
        self._profile = profile

    def imsi(self, imsi: str) -> str:
        """Return the pseudonym of an IMSI, in the same network (MCC and MNC, 3GPP TS 23.003 clause 2.2)."""
        kept = _network_digits(imsi[:6])
        return imsi[:kept] + self._permuted(imsi[kept:], f"imsi {imsi[:kept]}")

    def imei(self, imei: str) -> str:
        """Return the pseudonym of an IMEI or IMEISV, of the same type (TAC); a check digit stays right or wrong."""
        end = _TAC_DIGITS + _SERIAL_DIGITS
        changed = imei[:_TAC_DIGITS] + self._permuted(imei[_TAC_DIGITS:end], f"imei {imei[:_TAC_DIGITS]}")
        if len(imei) != end + 1:
            return changed + imei[end:]
        off_by = (int(imei[end]) - _luhn_digit(imei[:end])) % 10
        return f"{changed}{(_luhn_digit(changed) + off_by) % 10}"

    def msisdn(self, number: str) -> str:
        """Return the pseudonym of a subscriber number: same calling code, same form (`+`, `00`, national).

        A number that a numbering plan assigns becomes another one that it assigns.
        """
        found = _NUMBER.fullmatch(number)
        if found is None:
            return self.number(number)
        prefix, digits = found[1] or "", found[2]
        trunk, national_digits = self._profile.trunk_prefix, self._profile.national_digits
        if not prefix and trunk and digits.startswith(trunk) and len(digits) == national_digits + len(trunk):
            return trunk + self._national(self._profile.calling_code, digits.removeprefix(trunk))
        code = next((digits[:n] for n in (1, 2, 3) if int(digits[:n]) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE), "")
        return prefix + code + self._national(code, digits[len(code) :])

    def _national(self, code: str, digits: str) -> str:
        def plausible(nationals: list[str]) -> list[bool]:
            return [is_plausible(f"+{code}{national}") for national in nationals]

        (was_plausible,) = plausible([digits])
        return self._permuted(
            digits, f"msisdn {code}", lambda nationals: [each == was_plausible for each in plausible(nationals)]
        )

    def number(self, digits: str) -> str:
        """Return the pseudonym of seven digits or more of unknown meaning.

        Where their form tells none, the first three stay, or fewer: at least six digits change.
        """
        code, national_digits = self._profile.calling_code, self._profile.national_digits
        trunk = self._profile.trunk_prefix
        if _IMSI.fullmatch(digits) and are_assigned(mobile_country_codes(pa.array([digits])))[0]:
            return self.imsi(digits)
        is_international = digits.startswith(code) and len(digits) == len(code) + national_digits
        is_national = trunk is not None and digits.startswith(trunk) and len(digits) == len(trunk) + national_digits
        if (is_international or is_national or digits.startswith("00")) and _NUMBER.fullmatch(digits):
            return self.msisdn(digits)
        kept = min(_KEPT_OF_OTHERS, len(digits) - _LEAST_DIGITS)
        # No subscriber number is this long, so the digits are changed piece by piece; the last piece has the rest.
        starts = [kept, *range(kept + _PIECE, len(digits) - _LEAST_DIGITS + 1, _PIECE)]
        pieces = [digits[start:end] for start, end in zip(starts, [*starts[1:], len(digits)], strict=True)]
        return digits[:kept] + "".join(self._permuted(piece, "number") for piece in pieces)

    def field(self, field: str, text: str) -> str:
        """Return the text of a number field with the number changed, however it is written; short ones stay."""
        if field == "imsi" and _IMSI.fullmatch(text):
            return self.imsi(text)
        if field == "imei" and _IMEI.fullmatch(text):
            return self.imei(text)
        if field in ("msisdn", "peer_msisdn") and _NUMBER.fullmatch(text):
            return self.msisdn(text)
        return self._spread(text, _SHORTEST_IN_NUMBER_FIELD)

    def text(self, text: str) -> str:
        """Return a text in which each run of at least ten digits is changed, as it may be a subscriber's number."""
        return re.sub(r"\d+", lambda run: self._spread(run[0], _SHORTEST_NUMBER), text)

    def broken(self, text: str) -> str:
        """Return a text that no decoder could read, with each run of digits changed that may be part of a number."""
        return re.sub(r"\d(?:[ .\-\0]{0,3}\d){6,}", lambda run: self._spread(run[0], 1), text)

    def _spread(self, text: str, shortest: int) -> str:
        """Change the digits of a text, of any script, as one number; characters between them and short texts stay."""
        digits = "".join(str(unicodedata.decimal(each)) for each in text if each.isdecimal())
        if len(digits.lstrip("0")) < shortest:
            return text
        changed = iter(self.number(digits))
        return "".join(
            chr(ord(each) - unicodedata.decimal(each) + int(next(changed))) if each.isdecimal() else each
            for each in text
        )

    def _permuted(self, digits: str, tweak: str, are_alike: Callable[[list[str]], list[bool]] | None = None) -> str:
        """Return as many other digits, by a permutation of those for which `are_alike` is true."""
        steps = self._steps(digits, tweak)
        changed = next(steps) if are_alike is None else _first_alike(steps, are_alike)
        return changed if changed != digits else next(self._steps(digits, f"{tweak} again"))

    def _steps(self, digits: str, tweak: str) -> Iterator[str]:
        """Encrypt digits, encrypt the result, and so on; yield each result."""
        while True:
            digits = self._cipher.encrypt(digits, tweak=tweak.encode())
            yield digits


def _first_alike(steps: Iterator[str], are_alike: Callable[[list[str]], list[bool]]) -> str:
    """Return the first step that is alike (cycle walking), which permutes the alike ones among themselves.

    If none of the first 511 steps is alike, return the first one.
    """
    first = next(steps)
    steps = chain([first], steps)
    for size in _WALKS:
        # Each walk is longer: most often one step is enough, and checking several at once costs as much as one.
        walk = list(islice(steps, size))
        found = next((step for step, is_alike in zip(walk, are_alike(walk), strict=True) if is_alike), None)
        if found is not None:
            return found
    return first


@lru_cache(maxsize=4096)
def _network_digits(prefix: str) -> int:
    """Return the length of MCC and MNC together at the start of an IMSI."""
    network = home_networks(pa.array([prefix.ljust(15, "0")]))
    return len(network.mcc[0].as_py()) + len(network.mnc[0].as_py())


def _luhn_digit(digits: str) -> int:
    """Return the Luhn check digit of 14 digits (3GPP TS 23.003 annex B)."""
    doubled = [2 * int(each) if place % 2 else int(each) for place, each in enumerate(digits)]
    return -sum(each // 10 + each % 10 for each in doubled) % 10
