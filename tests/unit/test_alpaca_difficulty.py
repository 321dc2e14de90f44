"""AlpacaEval's difficulties of instructions, and the gamed rows that lie beside them."""

from pathlib import Path
from typing import Any

import pytest

from tests.benching import bench
from tests.unit.test_alpaca import ROWS, row, section, write
from zephyr.errors import DataError
from zephyr.evals import alpaca
from zephyr.evals.alpaca import published


def test_difficulties_by_place_and_by_instruction(tmp_path: Path) -> None:
    table = tmp_path / "d.csv"
    table.write_text("index,instruction_difficulty\n1,0.5\n0,-2\n3,1e-1\n2,4\n")
    at = bench(section(difficulty="d"), tmp_path, {"i": ROWS, "d": table})
    assert alpaca.difficulty(at) == ({"1": -2.0, "2": 0.5, "3": 4.0, "4": 0.1}, [])
    named = [{"instruction": f"say {n}", "instruction_difficulty": n} for n in range(3)]
    with pytest.raises(DataError, match=r"no difficulty of instruction 4: 'say 3'"):
        alpaca.check(bench(section(difficulty="d"), tmp_path, {"i": ROWS, "d": named}))
    for wrong in ("x", "nan", "inf"):
        table.write_text(f"index,instruction_difficulty\n0,{wrong}\n")
        with pytest.raises(DataError, match=r"evaluate\.difficulty: .*d\.csv:2: needs instruction_difficulty"):
            alpaca.check(at)


def test_gamed_rows_of_the_published_file(tmp_path: Path) -> None:
    """AlpacaEval's columns; its difference in length is the opponent's less the model's, so a longer model's is < 0."""
    table = tmp_path / "df_gamed.csv"
    head = "model,index,preference,std_delta_len,not_gamed_baseline,instruction_difficulty\n"
    more = "".join(f"brief,{n},0.25,1.5,False,{n}\n" for n in range(4))
    table.write_text(head + "wordy,0,0.75,-2,False,0\nwordy,1,,1,False,1\n" + more)
    found = alpaca.difficulty(bench(section(difficulty="d"), tmp_path, {"i": ROWS, "d": table}))
    assert found is not None and found.of == {"1": 0.0, "2": 1.0, "3": 2.0, "4": 3.0}
    assert found.gamed == [(0.75, 2.0, 0.0), *((0.25, -1.5, float(n)) for n in range(4))]  # one was not read
    rows = [row(n, 1 + n % 2, output_2="long " * n) for n in range(4)]
    file, known = write(tmp_path / "a.json", rows), [f"say {n}" for n in range(4)]
    (one,) = published.standings([file], known, table)
    assert (one.win["lc_difficulty"], one.win["lc_regularised"]) == ("file", True)
    table.write_text(head.replace("not_gamed_baseline", "kind") + more)
    (one,) = published.standings([file], known, table)
    assert (one.win["lc_difficulty"], one.win["lc_regularised"]) == ("file", False)
    for wrong, said in (("y,1", "needs preference"), ("0.5,", "needs preference"), ("1.5,1", "1.5 lies outside")):
        table.write_text(f"{head}wordy,0,{wrong},False,0\n")
        with pytest.raises(DataError, match=rf"df_gamed\.csv:2: .*{said}"):
            published.standings([file], known, table)


def test_the_place_of_an_instruction_is_that_of_the_set(tmp_path: Path) -> None:
    """Annotations in another order than the set's, which AlpacaEval's difficulties go by."""
    rows = [row(n, 1 + (n % 3 > 0), output_2="long " * (n % 7)) for n in (*range(31, 60), *range(31))]
    file, known = write(tmp_path / "annotations.json", rows), [f"say {n}" for n in range(60)]
    hard = [float(n % 3 > 0) for n in range(60)]
    by_place, by_name = tmp_path / "d.csv", tmp_path / "d.json"
    by_place.write_text("index,instruction_difficulty\n" + "".join(f"{n},{one}\n" for n, one in enumerate(hard)))
    write(by_name, [{"instruction": f"say {n}", "instruction_difficulty": one} for n, one in enumerate(hard)])

    def controlled(known: list[str] | None, difficulty: Path) -> Any:
        (found,) = published.standings([file], known, difficulty)
        assert found.win["lc_difficulty"] == "file"
        return found.win["lc_win_rate"]

    assert controlled(known, by_place) == controlled(None, by_name)
    with pytest.raises(DataError, match=r"d\.csv goes by index, .*; give the set with --instructions"):
        controlled(None, by_place)  # the annotations' own order is not the set's
