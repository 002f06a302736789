"""The shortened run of benchmarks/chaos.py: harm to real processes, and nothing lost or doubled."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

ROOT = Path(__file__).resolve().parent.parent.parent


def stormed(folder: Path, *arguments: str) -> dict[str, int]:
    report = folder / "report.json"
    command = [sys.executable, "-m", "benchmarks.chaos", "--json", str(report), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert report.exists(), done.stderr[-3000:]
    found: dict[str, int] = json.loads(report.read_text())
    return found


def ensure_nothing_lost(report: dict[str, int]) -> None:
    nothing = ("lost", "unrecorded_calls", "out_of_order")
    twice = ("refunds_twice", "entries_twice", "letters_twice")
    assert {name: report[name] for name in (*nothing, *twice)} == dict.fromkeys(
        (*nothing, *twice), 0
    ), report
    assert report["succeeded"] > 0


@pytest.mark.postgresql
def test_kills_stops_and_power_cuts_lose_and_double_nothing(tmp_path: Path) -> None:
    report = stormed(tmp_path, "--kills", "25", "--stops", "2", "--restarts", "2")
    ensure_nothing_lost(report)
    assert (report["kills"], report["stops"], report["restarts"]) == (25, 2, 2)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the other has a test of its own")
def test_four_writers_on_sqlite_lose_and_double_nothing(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'chaos.sqlite3'}"
    report = stormed(tmp_path, "--kills", "8", "--database", database)
    ensure_nothing_lost(report)
