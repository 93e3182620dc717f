"""Patches of records, and what is noted as redriven."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orion_beam.dead_letters import LETTER_SCHEMA
from orion_beam.dlq.patches import apply_patch, load_patch, setting
from orion_beam.dlq.redriven import CHUNK_OFFSETS, Redriven
from orion_beam.errors import UserError
from tests.orion_beam.dlq.desk import IMSI, letters, semicolon

TOPIC = "cdr.dlq"


def test_setting_a_field_writes_it_in_the_record_s_own_format():
    flat = b'{"imsi":"208011234567890","rat":"6G"}'
    patched = apply_patch(setting({"rat": "4G"}), letters("FR", [semicolon(rat="6G"), flat, b"no record"]), TOPIC)
    assert patched.values == [semicolon(rat="4G"), flat.replace(b"6G", b"4G"), None]
    assert patched.failures == {2: "no known format reads the payload"}


def test_a_function_sees_the_record_and_why_it_was_refused(tmp_path):
    file = tmp_path / "mend.py"
    file.write_text(
        "import re\n"
        "def patch(record):\n"
        "    if record.codes == ('unknown_rat',) and record.texts['rat'] == '6G' and record.country == 'FR':\n"
        "        return re.sub(b'6G', b'5G', record.value)\n"
        "    return None\n"
    )
    patched = apply_patch(load_patch(file), letters("FR", [semicolon(rat="6G"), semicolon(imsi="x")]), TOPIC)
    assert patched == ([semicolon(rat="5G"), None], {})


def test_a_patch_that_raises_harms_no_other_record_and_its_message_holds_no_value(tmp_path):
    file = tmp_path / "mend.py"
    file.write_text(
        "def patch(record):\n    if b'6G' in record.value:\n        raise ValueError(record)\n    return 5\n"
    )
    batch = letters("FR", [semicolon(rat="6G"), semicolon(imsi="x")])
    patched = apply_patch(load_patch(file), batch, TOPIC)
    assert patched.values == [None, None]
    assert patched.failures == {0: "ValueError in line 3", 1: "TypeError"}
    assert IMSI not in str(patched.failures)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def patch(", "SyntaxError in line 1"),
        ("raise OSError('secret')", "cannot be run: OSError in line 1$"),
        ("\n1/0", "ZeroDivisionError in line 2"),
        ("patch = 1", "has no function"),
    ],
)
def test_a_file_that_is_no_patch_is_refused(tmp_path, text, message):
    file = tmp_path / "mend.py"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        load_patch(file)


def test_a_file_that_is_not_there_and_a_field_that_is_none_are_refused(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        load_patch(tmp_path / "none.py")
    with pytest.raises(UserError, match="no such field"):
        setting({"colour": "red"})


def places(*found: tuple[int, int]) -> pa.RecordBatch:
    nothing = LETTER_SCHEMA.empty_table().to_pydict()
    columns = {name: [None] * len(found) for name in nothing}
    columns |= {"letter_partition": [p for p, _ in found], "letter_offset": [o for _, o in found]}
    return pa.RecordBatch.from_pydict(columns, schema=LETTER_SCHEMA)


_places = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3 * CHUNK_OFFSETS)), max_size=30)


@given(_places, _places, _places)
@settings(max_examples=25)
def test_what_was_noted_is_held_after_a_restart_and_nothing_else_is(first, second, others):
    journal: dict = {}
    for some in (first, second):
        redriven = Redriven("topic", journal)
        changed, entries = redriven.with_letters(places(*some))
        assert not redriven.holds(places(*(set(some) - set(first)))).any()
        redriven.note(changed)
        assert redriven.holds(places(*some)).all()
        journal |= entries
    held = Redriven("topic", journal).holds(places(*others))
    assert held.tolist() == [place in {*first, *second} for place in others]
    assert not Redriven("another topic of the name", journal).holds(places(*first)).any()


def test_an_entry_of_the_journal_is_small():
    every_other = np.arange(0, CHUNK_OFFSETS, 2)
    _, entries = Redriven("topic", {}).with_letters(places(*((0, int(offset)) for offset in every_other)))
    assert [len(entry["bits"]) < 100 for entry in entries.values()] == [True]
    scattered = np.random.default_rng(1).choice(CHUNK_OFFSETS, CHUNK_OFFSETS // 2, replace=False)
    _, entries = Redriven("topic", {}).with_letters(places(*((0, int(offset)) for offset in scattered)))
    assert [len(entry["bits"]) < 12_000 for entry in entries.values()] == [True]
