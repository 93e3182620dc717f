from scripts.coverage_rooms import Room, rooms_of, table


def file(statements: int, lines: int, branches: int = 0, taken: int = 0) -> dict[str, dict[str, int]]:
    return {
        "summary": {
            "num_statements": statements,
            "covered_lines": lines,
            "num_branches": branches,
            "covered_branches": taken,
        }
    }


FILES = {
    "transforms/decode.py": file(10, 10, 4, 4),
    "transforms/encode.py": file(20, 10, 6, 1),
    "transforms/stage/__init__.py": file(0, 0),
}


def test_a_room_counts_the_lines_and_branches_of_the_modules_directly_in_it() -> None:
    assert rooms_of(FILES) == {"transforms": Room(2, 40, 25), "transforms/stage": Room(1, 0, 0)}


def test_the_last_line_of_the_table_is_the_whole() -> None:
    header, *rooms, whole = table(rooms_of(FILES))
    assert header.split("  ")[0].strip() == "room"
    assert [line.split() for line in rooms] == [
        ["transforms", "2", "40", "15", "62.5%"],
        ["transforms/stage", "1", "0", "0", "100.0%"],
    ]
    assert whole.split() == ["all", "3", "40", "15", "62.5%"]
