"""Kernels work where nothing can be kept on disk."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
from numba.core import caching
class Nowhere:
    @classmethod
    def from_function(cls, function, path):
        return None
for cache in (caching.CompileResultCacheImpl, caching.CodeLibraryCacheImpl):
    cache._locator_classes = [Nowhere]
from cinelabel.phantom.compiled import kernel
@kernel()
def twice(x):
    return 2.0 * x
print(twice(21.0))
"""


def test_a_kernel_is_compiled_where_no_folder_for_it_can_be_written() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.stdout.strip() == "42.0", done.stderr
