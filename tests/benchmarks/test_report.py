"""The report of `make bench`, made of given figures."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence

import pytest

from benchmarks.report import Machine, Report, Run

MACHINE = Machine("Linux 6.1", "a processor <of a kind>", 2, 24.0, "2026-11-28", "abc1234", (7.0, 9.2, 8.4))
TITLES = {"orion": "ORION", "flink-sql": "Flink SQL", "pyflink": "PyFlink"}
SVG = "{http://www.w3.org/2000/svg}"


def run(contender: str, number: int, jvm: float, python: float = 0.0, problems: Sequence[str] = ()) -> Run:
    return Run(
        contender=contender,
        round=number,
        records=1_000_000,
        cdr_per_s=100_000.0 * number,
        warm_cdr_per_s=110_000.0 * number,
        cpu_us={"broker": 1.5, "jvm": jvm, "python": python},
        whole_cpu_us=20.0,
        memory_mib={"jvm": 2_000.0, "python": 400.0},
        start_s=9.5,
        latency_p50_ms=80.0 if contender == "orion" else None,
        latency_p99_ms=160.0 if contender == "orion" else None,
        problems=problems,
    )


@pytest.fixture
def report() -> Report:
    runs = [run("orion", 1, 2.0, 4.0), run("orion", 2, 3.0, 5.0), run("orion", 3, 2.5, 4.5)]
    runs += [run("flink-sql", number, jvm) for number, jvm in ((1, 14.0), (2, 10.5), (3, 12.0))]
    return Report(MACHINE, TITLES, runs, {"pyflink": "it cannot be installed"})


def test_the_table_gives_medians_and_ranges_the_machine_and_who_is_missing(report: Report) -> None:
    lines = report.table().splitlines()
    (orion,) = [line for line in lines if line.startswith(" ORION ")]
    assert "200,000 (100,000–300,000)" in orion
    assert "7.0 (6.0–8.0)" in orion
    assert "2,400" in orion
    assert "80" in orion.split()
    (sql,) = [line for line in lines if line.startswith(" Flink SQL ")]
    assert "12.0 (10.5–14.0)" in sql
    assert "1.7" in sql.split()
    assert "–" in sql.split()
    assert "PyFlink is missing: it cannot be installed" in lines
    text = " ".join(report.table().split())
    assert "2026-11-28, abc1234, a processor <of a kind>, 2 cores, 24 GiB" in text
    assert "load average at the start of each round: 7, 9, 8" in text


def test_json_holds_each_run_and_the_spread(report: Report) -> None:
    found = json.loads(report.as_json())
    sql = found["contenders"]["flink-sql"]
    assert sql["job_cpu_us"] == {"median": 12.0, "least": 10.5, "most": 14.0}
    assert sql["cpu_ratio_to_orion"] == pytest.approx(12 / 7)
    assert [each["round"] for each in sql["runs"]] == [1, 2, 3]
    assert found["missing"] == {"pyflink": "it cannot be installed"}
    assert found["machine"]["cores"] == 2


def test_the_chart_has_a_bar_as_long_as_the_figure_and_a_line_over_its_range(report: Report) -> None:
    chart = ET.fromstring(report.as_svg())
    bars = [float(bar.attrib["width"]) for bar in chart.iter(f"{SVG}rect") if bar.get("class") == "bar"]
    assert bars[1] / bars[0] == pytest.approx(12 / 7, rel=0.01)
    lines = [(float(line.attrib["x1"]), float(line.attrib["x2"])) for line in chart.iter(f"{SVG}line")]
    (start, _), widths = lines[0], [end - begin for begin, end in lines]
    assert start > 0
    assert widths[1] / widths[0] == pytest.approx((14 - 10.5) / (8 - 6), rel=0.01)
    texts = [text.text or "" for text in chart.iter(f"{SVG}text")]
    assert any("a processor <of a kind>" in text for text in texts)
    assert any("PyFlink is missing" in text for text in texts)


def test_an_output_that_differs_is_named_in_the_table() -> None:
    differing = Report(MACHINE, TITLES, [run("orion", 2, 1.0, problems=["cdr.final: 3 records missing"])], {})
    assert differing.problems == ["ORION, round 2: cdr.final: 3 records missing"]
    assert "NOT EQUAL: ORION, round 2: cdr.final: 3 records missing" in differing.table()


def test_without_orion_there_is_no_ratio() -> None:
    alone = Report(MACHINE, TITLES, [run("flink-sql", 1, 12.0)], {})
    assert alone.ratio("flink-sql") is None
    assert json.loads(alone.as_json())["contenders"]["flink-sql"]["cpu_ratio_to_orion"] is None


def test_all_three_files_are_written(report: Report, tmp_path) -> None:
    report.write(tmp_path / "bench")
    assert sorted(path.name for path in (tmp_path / "bench").iterdir()) == ["bench.json", "bench.svg", "bench.txt"]


def test_a_contender_that_failed_in_a_later_round_is_told_from_one_that_is_missing() -> None:
    report = Report(MACHINE, TITLES, [run("orion", 1, 1.0)], {"orion": "round 2: it stalled"})
    assert "ORION has 1 round only: round 2: it stalled" in report.table().splitlines()


def test_no_column_of_the_table_is_cut_off() -> None:
    runs = [run("orion", number, 1_000.0 * number, 50.0) for number in (1, 2, 3)]
    report = Report(MACHINE, TITLES | {"orion": "Ceiling: our graph without work"}, runs, {})
    assert "…" not in report.table()
