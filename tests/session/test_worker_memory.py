"""Workers of a cluster keep freed memory for the next array."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from napari_fewshot.session._dask_remote import _reuse_memory

def faults():
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(1_000_000, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin

before = faults()
_reuse_memory()
np.ones(1_000_000, np.float32)
print(before, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc takes such settings")
def test_freed_arrays_are_used_again_under_the_settings_of_a_nanny() -> None:
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"}
    found = subprocess.run(
        [sys.executable, "-c", FAULTS],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = map(int, found.stdout.split())
    assert before > 5_000, "the settings of a nanny cost pages, else this tests nothing"
    assert after < before / 20
