"""Parameters are checked the same way for API, form and command line."""

from __future__ import annotations

from dataclasses import fields

import pytest

from napari_fewshot.methods import (
    CommonParams,
    get_method,
    make_params,
    method_names,
    params_to_dict,
    parse_params,
)


@pytest.mark.parametrize("name", method_names())
def test_every_method_describes_itself_and_its_parameters(name):
    spec = get_method(name).spec
    assert spec.name == name
    assert spec.summary.endswith(".")
    assert issubclass(spec.params, CommonParams)
    for f in fields(spec.params):
        assert f.metadata["help"].endswith("."), f.name


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        pytest.param({"treshold": 1}, TypeError, "'threshold'", id="unknown"),
        pytest.param({"threshold": 2}, ValueError, "outside", id="too-high"),
        pytest.param({"threshold": float("nan")}, ValueError, "outside", id="nan"),
        pytest.param({"threshold": "high"}, TypeError, "number", id="text"),
        pytest.param({"fill_holes": 3}, TypeError, "True or False", id="bool"),
        pytest.param({"seed": 1.5}, TypeError, "whole", id="fraction"),
        pytest.param({"instances": "many"}, ValueError, "'watershed'", id="choice"),
        pytest.param({"min_area": {1: -3}}, ValueError, "outside", id="per-class"),
    ],
)
def test_bad_values_are_refused(values, error, words):
    with pytest.raises(error, match=words):
        make_params(CommonParams, values)


def test_text_becomes_values():
    params = parse_params(
        CommonParams,
        {
            "threshold": "0.3",
            "fill_holes": "no",
            "seed": "4",
            "instances": "components",
            "min_area": "1:20,2:50",
        },
    )
    assert params.threshold == 0.3
    assert params.fill_holes is False
    assert params.seed == 4
    assert params.min_area == {1: 20.0, 2: 50.0}
    assert params_to_dict(params)["min_area"] == {"1": 20.0, "2": 50.0}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param({"fill_holes": "maybe"}, TypeError, id="bool"),
        pytest.param({"threshold": "high"}, TypeError, id="number"),
        pytest.param({"min_area": "1:x"}, TypeError, id="mapping"),
        pytest.param({"nothing": "1"}, TypeError, id="unknown"),
    ],
)
def test_bad_text_is_refused(text, error):
    with pytest.raises(error):
        parse_params(CommonParams, text)
