"""What the page of benchmarks keeps when only some of them were run."""

from __future__ import annotations

from tools.benchmarks import Row, written

FIRST = Row("here", "one ÷ other", 1.0, 2.0, "as measured")
SECOND = Row("here", "another", 0.5, None, "reported")
OTHERS = "\n## On a graphics card\n\n| figure | measured |\n|---|---|\n| exact mode | not measured |\n"


def rows_of(page: str) -> list[str]:
    return [line for line in page.splitlines() if line.startswith("| here")]


def test_rows_that_were_not_run_stay_where_they_are() -> None:
    page = written("", [FIRST, SECOND], is_whole=True)
    again = written(page, [Row("here", "another", 0.75, None, "reported anew")], is_whole=False)
    first, second = rows_of(again)
    assert first == rows_of(page)[0]
    assert "0.75" in second and "reported anew" in second
    assert written(page, [], is_whole=False) == page


def test_a_row_of_another_place_is_another_row() -> None:
    page = written("", [FIRST], is_whole=True)
    again = written(page, [Row("there", "one ÷ other", 3.0, 2.0, "slower")], is_whole=False)
    assert rows_of(again) == rows_of(page)
    assert "| there | one ÷ other | 3 | ≤ 2 | MISSED | slower |" in again


def test_a_whole_run_leaves_no_old_rows() -> None:
    page = written("", [FIRST, SECOND], is_whole=True)
    assert len(rows_of(written(page, [SECOND], is_whole=True))) == 1


def test_other_sections_stay() -> None:
    page = written("", [FIRST], is_whole=True) + OTHERS
    for is_whole in (True, False):
        again = written(page, [SECOND], is_whole)
        assert again.endswith(OTHERS)
        assert again.count("## On a graphics card") == 1
