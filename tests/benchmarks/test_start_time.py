"""How long the command line takes to answer; prints a table (pytest -s) and never fails on time."""

from __future__ import annotations

import subprocess
import sys
import time

REPEATS = 3
CALLS = (["--help"], ["segment", "--help"], ["models", "list"])


def seconds(arguments: list[str]) -> float:
    code = "from cinelabel.cli.main import main; main()"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=True)
    return time.perf_counter() - start


def test_seconds_to_an_answer() -> None:
    rows = {" ".join(call): min(seconds(call) for _ in range(REPEATS)) for call in CALLS}
    print("\nfastest of", REPEATS)
    for call, best in rows.items():
        print(f"  cinelabel {call:<16} {best:6.2f} s")
    assert all(best > 0 for best in rows.values())
