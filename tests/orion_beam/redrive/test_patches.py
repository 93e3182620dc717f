"""Patches of records."""

import pytest

from orion_beam.errors import UserError
from orion_beam.redrive.patches import apply_patch, load_patch, setting
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
