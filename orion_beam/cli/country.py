"""`orion-beam country`: start a new country, and check one with the conformance kit."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from orion_beam.cli.shared.console import console_of
from orion_beam.cli.shared.given import local_path
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.options import Profiles
from orion_beam.defaults import PROFILES_DIRECTORY
from orion_beam.errors import UserError
from orion_beam.workspace import find_workspace, needed_workspace

with late_imports():
    from orion_beam.countries import all_profiles, load_profile, profiles_of
    from orion_beam.inspect.conformance import Finding, check_country
    from orion_beam.io.lines import records_among
    from orion_beam.schemas.country import CountryProfile
    from orion_beam.text_files.text_file import shown_path
    from orion_beam.text_files.toml_file import toml_files
    from orion_beam.transforms.rules.plausibility import example_numbers

app = typer.Typer(help="Begin a new country; check one against the conformance kit.", no_args_is_help=True)

_OF_WORKSPACE = "that of the workspace"
TESTDATA = Path("tests", "testdata")
TESTS = Path("tests", "countries")

_PROFILE = """\
# Sources: ITU-T E.212 (MCC, MNC), ITU-T E.164 (calling code), the regulator's numbering plan, IANA time zones.
code = "{code}"
name = "{name}"
topic = "cdr.raw.{code}"
mccs = ["{mcc}"]
calling_code = "{calling_code}"
national_digits = {national_digits}
time_zone = "{time_zone}"
formats = []
usual_roaming_countries = []

[[operators]]
name = "First operator"
plmns = ["{mcc}01"]
"""

_TEST = '''\
"""{name}: its golden cases, and what the conformance kit makes of them."""


def test_golden_cases(golden_cases):
    golden_cases("{code}")


def test_no_mutation_of_a_case_loses_or_changes_a_row(conformance_kit):
    conformance_kit("{code}")
'''


@app.command(
    epilog='Example: orion-beam country new CI --name "Côte d\'Ivoire" --mcc 612 --calling-code 225'
    " --national-digits 10 --time-zone Africa/Abidjan"
)
def new(
    code: Annotated[str, typer.Argument(help="ISO 3166-1 alpha-2, such as CI.")],
    name: Annotated[str, typer.Option(help="The country's name.")],
    mcc: Annotated[str, typer.Option(help="Mobile country code, ITU-T E.212.")],
    calling_code: Annotated[str, typer.Option(help="ITU-T E.164, without +.")],
    national_digits: Annotated[int, typer.Option(help="Length of a national significant number.")],
    time_zone: Annotated[str, typer.Option(help="IANA, such as Africa/Abidjan.")],
    profiles: Annotated[
        Path | None, typer.Option(callback=local_path, help="Directory of the profiles.", show_default=_OF_WORKSPACE)
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option(callback=local_path, help="Directory of the golden cases.", show_default=_OF_WORKSPACE),
    ] = None,
    tests: Annotated[
        Path | None,
        typer.Option(callback=local_path, help="Directory for a pytest file, too.", show_default="none in a workspace"),
    ] = None,
) -> None:
    """Write a profile and a folder of golden cases, into the workspace. The profile is checked.

    Existing files are left alone. A country that is shipped is replaced by that of the workspace. In a checkout of
    ORION Beam, outside of a workspace, the files become part of ORION Beam, with a test.
    """
    if re.fullmatch("[A-Z]{2}", code) is None:
        raise UserError(f"country code {code!r} is not two capital letters (ISO 3166-1 alpha-2)")
    if profiles is not None and not profiles.is_dir():
        raise UserError(f"--profiles {profiles}: there is no such directory")
    others = _profiles_beside(profiles)
    profiles, cases, tests = _places(profiles, cases, tests)
    path, folder = profiles / f"{code}.toml", cases / code.lower()
    test = None if tests is None else tests / f"test_{code.lower()}.py"
    for existing in (path, folder, test):
        if existing is not None and existing.exists():
            raise UserError(f"{existing} is there already")
    text = _PROFILE.format(
        code=code, name=name, mcc=mcc, calling_code=calling_code, national_digits=national_digits, time_zone=time_zone
    )
    profiles.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    try:
        profile = load_profile(draft)
        _refuse_mcc_of_another(profile, others)
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)
    folder.mkdir(parents=True)
    lines = _first_cases(profile)
    (folder / "input.txt").write_text("".join(f"{line}\n" for line in lines.values()), encoding="utf-8")
    (folder / "cases.txt").write_text("".join(f"{case}\n" for case in lines), encoding="utf-8")
    typer.echo(f"{shown_path(path)}: fill in formats, operators and usual roaming countries")
    typer.echo(f"{shown_path(folder)}: add a line to input.txt, and its name to cases.txt, for each rule of a format")
    if test is not None:
        test.parent.mkdir(parents=True, exist_ok=True)
        test.write_text(_TEST.format(code=code, name=name), encoding="utf-8")
        typer.echo(f"{shown_path(test)}: runs the cases and the kit; `make golden` writes what comes out: read it")
    else:
        typer.echo("then: orion-beam test --update writes what comes out: read it")
    typer.echo(f"then: orion-beam country check {code}")


def _places(profiles: Path | None, cases: Path | None, tests: Path | None) -> tuple[Path, Path, Path | None]:
    """Return the directories for a new country's files.

    Raises:
        UserError: There is neither a workspace nor a checkout of ORION Beam, and the options do not name them all.
    """
    if find_workspace() is None and TESTDATA.is_dir():
        return profiles or PROFILES_DIRECTORY, cases or TESTDATA, tests or TESTS
    if profiles is not None and cases is not None:
        return profiles, cases, tests
    workspace = needed_workspace()
    return profiles or workspace.countries, cases or workspace.cases, tests


def _profiles_beside(profiles: Path | None) -> Mapping[str, CountryProfile]:
    """Return the profiles that a new one must fit: those of the directory that is named, or all that are in use."""
    if profiles is not None and not toml_files(profiles):
        return {}
    return all_profiles(profiles)


def _refuse_mcc_of_another(profile: CountryProfile, others: Mapping[str, CountryProfile]) -> None:
    for code, other in others.items():
        if code != profile.code and (shared := set(profile.mccs) & set(other.mccs)):
            raise UserError(f"--mcc {min(shared)} is {other.name}'s ({code}): an MCC is of one country")


def _first_number(profile: CountryProfile) -> str:
    """Return a number that the country's plan assigns, or one of its length where libphonenumber has no plan."""
    for number in example_numbers(profile.code):
        if number.startswith(f"+{profile.calling_code}") and len(number) >= _SHORTEST_NUMBER:
            return number
    return f"+{profile.calling_code}{'7' * profile.national_digits}"


_SHORTEST_NUMBER = len("+") + 10


def _first_cases(profile: CountryProfile) -> dict[str, str]:
    """Return cases of the two formats that every country sends."""
    imsi, number = f"{profile.mccs[0]}01".ljust(15, "1"), _first_number(profile)
    record = {"event_type": "data", "imsi": imsi, "msisdn": number, "timestamp": "2026-06-01T10:00:00Z"}
    return {
        "flat JSON: data": json.dumps(record | {"bytes_uploaded": 1000, "bytes_downloaded": 2000}),
        "flat JSON: a call": json.dumps(record | {"event_type": "voice", "duration": 60, "called_number": "3639"}),
        "flat JSON: an sms, local time": json.dumps(record | {"event_type": "sms", "timestamp": "2026-06-01 10:00:00"}),
        "flat JSON: IMSI missing": json.dumps(record | {"imsi": None}),
        "flat JSON: every field broken": json.dumps(dict.fromkeys(record, "x")),
        "pipe text": f"{imsi}|{number}|voice|60||",
        "pipe text: a field too many": f"{imsi}|{number}|voice|60|||1",
        "no known format": "no record",
    }


@app.command(epilog="Example: orion-beam country check SN")
def check(
    code: Annotated[str, typer.Argument(help="Country code, such as SN.")],
    profiles: Profiles = None,
    cases: Annotated[
        Path | None, typer.Option(help="Directory of the golden cases.", show_default=_OF_WORKSPACE)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Mutate a country's golden cases in every known way; exit code 1 if a row is lost, changed or meets a bug."""
    profile = profiles_of([code.upper()], profiles)[code.upper()]
    workspace = find_workspace()
    directory = cases or (TESTDATA if workspace is None else workspace.cases)
    path = directory / profile.code.lower() / "input.txt"
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"golden cases {path}: {error.strerror}; --cases names their directory") from None
    findings = list(check_country(profile, records_among(lines, profile)))
    if as_json:
        typer.echo(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        _print(findings)
    if any(finding.failures for finding in findings):
        raise typer.Exit(1)


def _print(findings: list[Finding]) -> None:
    table = Table("mutation", "records", "result")
    for finding in findings:
        table.add_row(finding.check, str(finding.records), "\n".join(finding.failures) or "ok")
    console_of().print(table)
