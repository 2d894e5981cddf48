"""What was computed lately is kept up to a number of bytes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

from napari_fewshot.models._recent import Recent

KILOBYTE = torch.zeros(256)


def test_the_item_not_used_for_longest_makes_room():
    kept = Recent[tuple[torch.Tensor, ...]](3 * 1024)
    for key in "abc":
        kept.put(key, (KILOBYTE,))
    assert kept.get("a") is not None
    kept.put("d", (KILOBYTE,))
    assert kept.get("b") is None
    assert all(kept.get(key) is not None for key in "acd")


def test_an_item_put_again_counts_once_and_a_large_one_is_not_kept():
    kept = Recent[tuple[torch.Tensor, ...]](2 * 1024)
    for _ in range(5):
        kept.put("a", (KILOBYTE,))
    kept.put("b", (KILOBYTE,))
    assert kept.get("a") is not None
    kept.put("large", (KILOBYTE, KILOBYTE, KILOBYTE))
    assert kept.get("large") is None


def test_threads_may_share_it():
    kept = Recent[tuple[torch.Tensor, ...]](8 * 1024)

    def work(number):
        for n in range(200):
            kept.put(f"{number} {n % 7}", (KILOBYTE,))
            kept.get(f"{n % 4} {n % 7}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    held = [kept.get(f"{i} {n}") for i in range(4) for n in range(7)]
    assert sum(item is not None for item in held) == 8
