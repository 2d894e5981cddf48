"""`run`: a frozen request in, planes out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_fewshot.data import Hooks, Image, Progress, SupportSet, TextPrompt
from napari_fewshot.errors import (
    Cancelled,
    DataError,
    FewShotError,
    ModelError,
    SupportError,
    WeightsError,
)
from napari_fewshot.inference import FitCache, SegmentRequest, run


@pytest.fixture(scope="module")
def supports(blob_pair):
    return SupportSet([blob_pair(0), blob_pair(1)])


@pytest.fixture(scope="module")
def stack(blob_pair):
    pairs = [blob_pair(seed) for seed in range(2, 6)]
    return np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs])


def request(query, supports, **options):
    options = {"method": "pixel", **options}
    if options["method"] == "pixel":
        options["params"] = {"trees": 15, **options.get("params", {})}
    return SegmentRequest(Image.from_array(query, name="query"), supports, **options)


def collect(wanted, hooks=None, cache=None):
    results = []
    summary = run(wanted, hooks or Hooks(), results.append, cache)
    return results, summary


def test_every_plane_arrives_in_order_and_is_right(stack, supports):
    images, truth = stack
    results, summary = collect(request(images, supports))
    assert [r.plane for r in results] == [0, 1, 2, 3]
    for result, wanted in zip(results, truth, strict=True):
        assert result.labels.dtype == np.int32
        overlap = (
            2 * (result.labels & wanted).sum() / (result.labels.sum() + wanted.sum())
        )
        assert overlap > 0.9, f"plane {result.plane}"
        assert not result.probabilities, "probabilities of stacks are not kept"
        assert 0 <= result.scores[1] <= 1
    assert summary.present == {1: True}
    low, high = summary.score_intervals[1]
    assert low <= summary.scores[1] <= high


def test_only_chosen_planes_are_read(stack, supports):
    results, _ = collect(request(stack[0], supports, planes=(3, 1)))
    assert [r.plane for r in results] == [3, 1]


def test_probabilities_of_a_plane_are_kept(stack, supports):
    results, _ = collect(request(stack[0][0], supports))
    probability = results[0].probabilities[1]
    assert probability.dtype == np.float16
    assert probability.shape == stack[0][0].shape


def test_a_blank_plane_of_a_stack_is_empty(stack, supports):
    images = stack[0].copy()
    images[1] = 7
    results, _ = collect(request(images, supports))
    assert not results[1].labels.any()
    assert results[0].labels.any()


def test_progress_never_goes_back_and_ends_full(stack, supports):
    seen: list[Progress] = []
    collect(request(stack[0], supports), Hooks(seen.append))
    fractions = [p.done / p.total for p in seen if p.total]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert any(p.seconds_left is not None for p in seen)
    assert any("2 supports" in p.stage for p in seen)


def test_cancel_keeps_what_was_finished(stack, supports):
    results = []
    hooks = Hooks(is_cancelled=lambda: len(results) >= 2)
    with pytest.raises(Cancelled):
        run(request(stack[0], supports), hooks, results.append)
    assert len(results) == 2


def test_a_cached_fit_gives_the_same_labels(stack, supports):
    cache = FitCache()
    first, one = collect(request(stack[0][0], supports), cache=cache)
    second, two = collect(request(stack[0][0], supports), cache=cache)
    np.testing.assert_array_equal(first[0].labels, second[0].labels)
    assert two.provenance["seconds"]["assess"] == 0
    assert one.provenance["seconds"]["assess"] > 0


def test_the_cache_notices_new_labels_and_parameters(stack, supports, blob_pair):
    cache = FitCache()
    collect(request(stack[0][0], supports), cache=cache)
    for changed in (
        request(stack[0][0], SupportSet([blob_pair(0), blob_pair(9)])),
        request(stack[0][0], supports, params={"seed": 5}),
    ):
        _, summary = collect(changed, cache=cache)
        assert summary.provenance["seconds"]["assess"] > 0


def test_provenance_is_json_and_names_everything(stack, supports):
    _, summary = collect(request(stack[0], supports))
    record = json.loads(json.dumps(summary.provenance))
    assert record["method"] == "pixel"
    assert record["score_kind"] == "leave-one-out"
    assert record["params"]["threshold"] == 0.5
    assert record["inputs"]["query"]["shape"] == list(stack[0].shape)
    assert set(record["seconds"]) >= {"fit", "assess", "predict"}
    assert record["versions"]["napari-fewshot"]


def test_the_fingerprint_follows_the_pixels(stack, supports):
    one = collect(request(stack[0][0], supports))[1]
    two = collect(request(stack[0][1], supports))[1]
    inputs = [s.provenance["inputs"]["query"]["fingerprint"] for s in (one, two)]
    assert inputs[0] != inputs[1]


@pytest.mark.parametrize("instances", ["components", "watershed"])
def test_instances_are_numbered(stack, supports, instances):
    results, _ = collect(
        request(stack[0][0], supports, params={"instances": instances})
    )
    found = results[0].instances
    assert found is not None
    np.testing.assert_array_equal(found > 0, results[0].labels > 0)
    assert found.max() >= 2


def bad_requests(blob_pair):
    image, labels = blob_pair(0)
    good = SupportSet([(image, labels)])
    colour = np.stack([image] * 3, axis=-1)
    yield "no-support", request(image, SupportSet()), SupportError, "no support yet"
    yield (
        "only-negative",
        request(image, SupportSet([(image, labels * 0)])),
        SupportError,
        "any foreground",
    )
    yield "other-channels", request(colour, good), DataError, "3 channels"
    yield "constant-query", request(image * 0 + 5, good), DataError, "constant"
    yield (
        "constant-support",
        request(image, SupportSet([(image * 0, labels)])),
        SupportError,
        "constant",
    )
    yield "plane", request(image, good, planes=(2,)), DataError, "does not exist"
    yield "no-plane", request(image, good, planes=()), DataError, "No plane"
    yield "method", request(image, good, method="pixle"), ModelError, "'pixel'"
    yield (
        "model",
        request(image, good, method="prototype", model="filter"),
        ModelError,
        "'filters'",
    )
    text = {1: TextPrompt("cell")}
    yield "text", request(image, good, text=text), WeightsError, "reads text"


def test_bad_requests_are_refused_with_advice(blob_pair):
    for name, wanted, error, words in bad_requests(blob_pair):
        with pytest.raises(error, match=words) as caught:
            collect(wanted)
        assert isinstance(caught.value, FewShotError), name


def test_unknown_parameters_name_the_nearest(stack, supports):
    with pytest.raises(TypeError, match="did you mean 'threshold'"):
        collect(request(stack[0], supports, params={"treshold": 0.4}))
    with pytest.raises(ValueError, match=r"outside 0\.01"):
        collect(request(stack[0], supports, params={"threshold": 7}))
