"""Events on a country's network: who, when, where, what and how much, with one column per field."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from orion_beam.generator.draws import Bits, Index, bell, below, chance, draw, part, spread
from orion_beam.generator.formats import Rendering
from orion_beam.generator.population import ANCHORS, POPULATION_SIZE, Population, population_of
from orion_beam.generator.times import Spelling, offsets_s, spelled
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.fields import EVENT_TYPES
from orion_beam.transforms.arrow.compiled import Mask

VISITOR_SHARE = 0.06
BURST_SHARE = 0.01
BURST_ROWS = 16
"""Number of consecutive CDRs of one subscriber in a burst."""
LATE_SHARE = 0.2
"""Share of CDRs that come up to a day late (store and forward, partners' files); the others come within minutes."""
EARLY_SHARE = 0.001
"""Share of CDRs from network elements whose clock is fast, by less than the tolerated hour."""
EXTREME_SHARE = 0.0003
"""Share of events with over 2 h of voice or over 10 GB of data; of suspicious subscribers' events it is half."""
NO_IMEI_SHARE = 0.02

_VOICE, _SMS, _DATA = (EVENT_TYPES.index(name) for name in ("voice", "sms", "data"))
_EVENT_MIX = spread([46, 26, 28], 256)
_EVENT_SPELLINGS = [name for name in EVENT_TYPES] * 14 + [name.upper() for name in EVENT_TYPES] * 2
# Share of events in each local hour, 0 to 23: quiet nights, a peak at noon, the busiest hours in the evening.
_DAILY_RHYTHM = spread(
    [14, 8, 5, 4, 4, 8, 20, 40, 62, 74, 80, 84, 88, 82, 76, 76, 80, 88, 96, 100, 96, 80, 54, 28], 65_536
)
# Vendors of network elements name each radio generation differently.
_RAT_NAMES = ["LTE"] * 36 + ["E-UTRAN"] * 4 + ["EUTRAN", "4G", "4g", "lte", "6"] + ["NR"] * 7 + ["5G"] * 2 + \
    ["UTRAN"] * 4 + ["UMTS", "3G"] + ["GERAN"] * 3 + ["GSM", "2g"]  # fmt: skip
_RAT_NUMBERS = ["06"] * 44 + ["51"] * 8 + ["10", "08"] + ["01"] * 6 + ["02"] * 4
# Spellings of a number's prefix in a JSON string or a column of variable width; most have +.
_NUMBER_PREFIXES = ["+"] * 13 + [""] * 2 + ["00"]
_CALL_TYPES = ["outgoing"] * 8 + ["incoming"] * 7 + ["forwarded"]
_SMS_TYPES = ["mo"] * 8 + ["mt"] * 8
_APNS = ["internet"] * 12 + ["ims", "mms", "iot.corp", "wap"]
_SHORT_CODES = ["123", "888", "1515", "SAMU"]

_NETWORK = frozenset({"cell_id", "rat", "imei", "lac_tac"})
_CONVERSATION = frozenset({
    "peer_msisdn", "call_type", "apn", "sms_type", "message_length", "charging_id", "subscriber_type",
})  # fmt: skip

TextColumns = dict[str, pl.Series]


def _choice(table: Sequence[str], bits: Bits) -> pl.Series:
    """Return a member of the table for each draw, all equally likely."""
    places = (bits % np.uint64(len(table))).astype(np.int64)
    return pl.Series(table, dtype=pl.String).gather(pl.Series(places))


def _where(mask: Mask, values: pl.Series) -> pl.Series:
    """Return `values` where the mask is true, null elsewhere."""
    return pl.select(pl.when(pl.Series(mask)).then(values)).to_series()


def _digits(numbers: Index | Bits) -> pl.Series:
    return pl.Series(numbers).cast(pl.String)


class Traffic:
    """The events of one country, as texts ready to be put into a raw format.

    An event depends on the seed, the country, its row's number and its arrival, never on other rows of the batch.
    """

    def __init__(self, profile: CountryProfile, seed: int, population_size: int = POPULATION_SIZE) -> None:
        """Prepare the country's population; each seed gives an unrelated sequence of events."""
        self._labels = (profile.code, seed)
        self._zone = profile.zone
        self._population: Population = population_of(profile, population_size)
        people, cells = self._population.people, self._population.cells
        # These columns are looked up millions of times, which is fastest in one chunk each.
        self._people = {name: people[name].rechunk() for name in ("imsi", "msisdn", "imei", "subscriber_type")}
        self._cells = {name: cells[name].rechunk() for name in ("cell_id", "lac_tac")}

    def draw(self, rows: Bits, label: str) -> Bits:
        """Return 64 random bits for each row."""
        return draw(rows, label, *self._labels)

    def events(self, rows: Bits, arrivals_ms: Index, rendering: Rendering) -> TextColumns:
        """Return the events of rows that share a raw format.

        Args:
            rows: Numbers of the rows, from 0.
            arrivals_ms: Arrival of each CDR, in epoch milliseconds.
            rendering: Rendering of the raw format, which decides on the fields and their spelling.

        Returns:
            Columns named as in `cdr.DecodedFields` (null: absent), and `key`, the subscriber's IMSI. In JSON formats
            `count_quote` and `time_quote` hold the quote around counts and times: `"` or nothing.
        """
        # In a burst, draws about the subscriber are those of the burst instead of the row.
        # In a burst the draws about the subscriber belong to the burst, not to the row.
        bursts = (rows // np.uint64(BURST_ROWS)) | np.uint64(1 << 62)
        whose = np.where(chance(self.draw(bursts, "burst"), BURST_SHARE), bursts, rows)
        who = self._who(whose)
        look, how_much = self.draw(rows, "look"), self.draw(rows, "how much")
        is_extreme = chance(self.draw(rows, "extreme"), EXTREME_SHARE)
        is_extreme |= self._population.is_suspicious[who] & (part(look, 3) < 0x8000)
        has_type = "event_type" in rendering.fields
        event_type = _EVENT_MIX[below(self.draw(rows, "type"), 256)] if has_type else None
        if rendering.event_type is not None:
            event_type = np.full(len(rows), EVENT_TYPES.index(rendering.event_type), np.int64)

        someone = pl.Series(who)
        imsi = self._people["imsi"].gather(someone)
        texts = {
            "key": imsi,
            "imsi": imsi,
            "msisdn": _choice(_NUMBER_PREFIXES, look) + self._people["msisdn"].gather(someone),
        }
        texts |= self._usage(event_type, how_much, is_extreme)
        if not _NETWORK.isdisjoint(rendering.fields):
            texts |= self._network(whose, who, look, rendering)
        if rendering.spellings:
            times = self._event_times_ms(rows, arrivals_ms)
            chosen = np.array(rendering.spellings)[(part(look, 2) & np.uint64(63)).astype(np.int64)]
            texts["event_time"] = spelled(times, chosen, self._zone)
            if rendering.is_json:
                texts |= self._quotes(look, chosen)
        if event_type is not None:
            # Each third entry of the table has the same type, so a step of that size changes only the spelling.
            step = (part(look, 1) & np.uint64(15)).astype(np.int64) * len(EVENT_TYPES)
            spelling_of = pl.Series(_EVENT_SPELLINGS, dtype=pl.String)
            texts["event_type"] = spelling_of.gather(pl.Series(event_type + step))
            if not _CONVERSATION.isdisjoint(rendering.fields):
                texts["subscriber_type"] = self._people["subscriber_type"].gather(someone)
                texts |= self._conversation(rows, event_type, is_extreme)
        return texts

    def _who(self, whose: Bits) -> Index:
        """Return positions in the population; those further down are less active (Zipf's law, exponent 1/2)."""
        people = self._population
        bits = self.draw(whose, "who")
        uniform = (bits >> np.uint64(11)).astype(np.float64) / 2**53
        at_home = (uniform * uniform * people.home_size).astype(np.int64)
        other = self.draw(whose, "visitor")
        visitors = people.home_size + part(other, 0).astype(np.int64) % (people.people.height - people.home_size or 1)
        return np.where(chance(other, VISITOR_SHARE), visitors, at_home)

    def _network(self, whose: Bits, who: Index, look: Bits, rendering: Rendering) -> TextColumns:
        people = self._population
        bits = self.draw(whose, "where")
        cell = people.anchors[who, (part(bits, 0) % np.uint64(ANCHORS)).astype(np.int64)]
        # Some subscribers travel in the country, also on other networks, and some home subscribers are abroad.
        roll, pick = part(bits, 1), part(bits, 2).astype(np.int64)
        cell = np.where(roll < 1300, pick % people.home_cells, cell)
        away = people.cells.height - people.home_cells
        if away:
            cell = np.where((roll > 64_900) & (who < people.home_size), people.home_cells + pick % away, cell)
        place = pl.Series(cell)
        rats = _RAT_NUMBERS if rendering.is_fixed_width else _RAT_NAMES
        texts = {"cell_id": self._cells["cell_id"].gather(place), "rat": _choice(rats, part(look, 1))}
        if "imei" in rendering.fields:
            is_known = part(look, 0) >= int(NO_IMEI_SHARE * 65_536)
            texts["imei"] = _where(is_known, self._people["imei"].gather(pl.Series(who)))
        if "lac_tac" in rendering.fields:
            texts["lac_tac"] = self._cells["lac_tac"].gather(place)
        return texts

    def _usage(self, event_type: Index | None, how_much: Bits, is_extreme: Mask) -> TextColumns:
        """Return bytes of data events and seconds of voice events: most small, some large, few extreme.

        Without event types, all events are data events.
        """
        size = bell(how_much)
        # 4 KB to 1 GB, half of them below 2 MB; extreme: 11 to 61 GB.
        down = np.exp2(12 + 4.5 * size) + part(how_much, 3)
        down = np.where(is_extreme, 11e9 + 12.5e9 * size, down).astype(np.int64)
        up = (down >> (2 + (part(how_much, 2) & np.uint64(3)).astype(np.int64))) + part(how_much, 1).astype(np.int64)
        texts = {"bytes_up": _digits(up), "bytes_down": _digits(down)}
        if event_type is None:
            return texts
        texts = {name: _where(event_type == _DATA, column) for name, column in texts.items()}
        # 4 s to 68 min, half of them below 2 min; extreme: 2 h to 6 h.
        seconds = np.where(is_extreme, 7_201 + 3_600 * size, np.exp2(2 + 2.5 * size)).astype(np.int64)
        return texts | {"duration_s": _where(event_type == _VOICE, _digits(seconds))}

    def _event_times_ms(self, rows: Bits, arrivals_ms: Index) -> Index:
        """Return the time of each event: minutes before its arrival, or, when late, in an hour of the daily rhythm."""
        bits = self.draw(rows, "when")
        lag = np.exp2(6 + part(bits, 0) / (65_536 / 13)).astype(np.int64)
        arrivals_s = arrivals_ms // 1000
        late = np.flatnonzero(chance(bits, LATE_SHARE))
        hour = _DAILY_RHYTHM[part(bits[late], 1).astype(np.int64)]
        second = hour * 3600 + part(bits[late], 2).astype(np.int64) % 3600
        local = arrivals_s[late] + offsets_s(arrivals_s[late], self._zone)
        lag[late] = (local - second) % 86_400 * 1000 + part(bits[late], 0).astype(np.int64) % 1000
        early = np.flatnonzero(part(bits, 2) < int(EARLY_SHARE * 65_536))
        lag[early] = -(part(bits[early], 1).astype(np.int64) * 50)
        return arrivals_ms - lag

    def _quotes(self, look: Bits, spellings: Index) -> TextColumns:
        is_epoch = (spellings == Spelling.EPOCH_SECONDS) | (spellings == Spelling.EPOCH_MILLIS)
        is_quoted = part(look, 3) & np.uint64(15) == 0
        quotes = pl.Series(["", '"'], dtype=pl.String)
        return {
            "count_quote": quotes.gather(pl.Series(is_quoted.astype(np.int64))),
            "time_quote": quotes.gather(pl.Series((~is_epoch | is_quoted).astype(np.int64))),
        }

    def _conversation(self, rows: Bits, event_type: Index, is_extreme: Mask) -> TextColumns:
        """Return the fields of only some formats: other party, type of call and SMS, APN, charging id."""
        people = self._population
        bits = self.draw(rows, "peer")
        kind = part(bits, 3)
        inland = below(bits, people.home_peers)
        world = people.home_peers + part(bits, 0).astype(np.int64) % (len(people.peers) - people.home_peers or 1)
        is_abroad = (kind < 3_000) | (is_extreme & (kind < 50_000))
        peer = people.peers.gather(pl.Series(np.where(is_abroad, world, inland)))
        is_short = pl.Series(kind > 64_900)
        peer = pl.select(pl.when(is_short).then(_choice(_SHORT_CODES, bits)).otherwise(peer)).to_series()
        length = _digits(1 + (part(bits, 1) % np.uint64(160)).astype(np.int64))
        is_voice, is_sms = event_type == _VOICE, event_type == _SMS
        return {
            "peer_msisdn": _where(is_voice | is_sms, peer),
            "call_type": _where(is_voice, _choice(_CALL_TYPES, part(bits, 1))),
            "apn": _where(event_type == _DATA, _choice(_APNS, part(bits, 1))),
            "sms_type": _where(is_sms, _choice(_SMS_TYPES, part(bits, 1))),
            "message_length": _where(is_sms, length),
            "charging_id": _digits(self.draw(rows, "charging") >> np.uint64(8)),
        }


def arrivals_ms(rows: Bits, start: datetime, rows_per_second: float, lead_s: float) -> Index:
    """Return the arrival of each row in epoch milliseconds, evenly spaced from `lead_s` before `start`."""
    elapsed: NDArray[np.float64] = rows / rows_per_second - lead_s
    return int(start.timestamp() * 1000) + np.floor(elapsed * 1000).astype(np.int64)
