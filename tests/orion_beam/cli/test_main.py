"""How a command ends, whatever it ends with."""

import pytest

from orion_beam.cli import main


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_a_signal_ends_a_command_also_where_c_code_makes_an_error_of_it(
    raised: BaseException, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(**_: object) -> None:
        raise SystemError("<class 'set'> returned a result with an exception set") from raised

    monkeypatch.setattr(main, "app", interrupted)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == code


def test_an_error_of_c_code_is_not_taken_for_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise SystemError("bad argument to internal function")

    monkeypatch.setattr(main, "app", broken)
    with pytest.raises(SystemError, match="bad argument"):
        main.main()
