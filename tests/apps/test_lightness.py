"""The server stays small: it has no use for torch, which MONAI Label's own holds all the time.

MONAI Label 0.8.5 takes 1.1 GB when idle and 7 to 10 s to start, nearly all of it for imports;
`tests/benchmarks/test_server_start.py` puts the two side by side.
"""

from __future__ import annotations

import sys
from typing import Any

import httpx
import psutil
import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process has loaded")
def test_a_server_that_has_segmented_on_the_cpu_has_not_loaded_torch(running: Any) -> None:
    answer = httpx.post(
        f"{running.url}/infer/cine",
        params={"image": "heart__t00", "output": "json"},
        data={"params": "{}"},
        timeout=120,
        trust_env=False,
    )
    assert answer.status_code == 200
    assert httpx.get(f"{running.url}/info/", trust_env=False).status_code == 200
    process = psutil.Process(running.server.pid)
    loaded = [entry.path for entry in process.memory_maps()]
    print(f"{process.memory_info().rss / 1e6:.0f} MB")
    assert any("openvino" in path for path in loaded)
    assert [path for path in loaded if "libtorch" in path or "SimpleITK" in path] == []
