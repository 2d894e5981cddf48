"""Phrases in a run: who reads them, and how they join supports and prompts."""

from __future__ import annotations

import hashlib
import json
import textwrap
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import SupportSet
from napari_fewshot.errors import ModelError, WeightsError
from napari_fewshot.inference._cache import Learnt
from napari_fewshot.inference._learn import Fit, learn, samples_for
from napari_fewshot.inference._prompted import prepare_prompting
from napari_fewshot.methods import (
    Reliability,
    get_method,
    make_params,
    params_to_dict,
)
from napari_fewshot.methods.text import (
    ADVICE,
    NOT_UNDERSTOOD,
    TextFitted,
    fuse_text,
    understanding,
)
from napari_fewshot.models import (
    get_model_spec,
    how_to_get,
    installed_text_models,
    load_text_model,
    model_specs,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot.data import Hooks, Plane, Sample
    from napari_fewshot.inference._cache import FitCache
    from napari_fewshot.inference._request import SegmentRequest
    from napari_fewshot.methods import CommonParams, Method

    # Planes of supports, their fingerprints, and notes of what was done to them.
    Shown = tuple[list[Sample], list[str], list[str]]

# Letters of a phrase that notes show.
SHOWN = 48


def leading_method(request: SegmentRequest) -> tuple[Method, CommonParams]:
    """Return the method whose parameters rule a run, and these.

    With supports it is the one that learns from them, unless the text is read by a
    method that learns from them itself, or alone.

    Raises
    ------
    ModelError
        If there is no such method.
    TypeError, ValueError
        For unknown parameters or values outside their limits.
    """
    if request.text:
        reader = _reader(request)
        learns = getattr(reader, "learns", False)
        if learns or not len(request.support) or request.reading.share == "alone":
            return reader, make_params(reader.spec.params, request.reading.params)
    method = get_method(request.method)
    return method, make_params(method.spec.params, request.params)


def learn_evidence(
    request: SegmentRequest,
    hooks: Hooks,
    cache: FitCache | None,
    seconds: dict[str, float],
) -> Fit:
    """Learn from supports, phrases, or both; see `learn`."""
    method, params = leading_method(request)
    if not request.text:
        return learn(request, method, params, hooks, cache, seconds)
    reader: Any = _reader(request)
    values = make_params(reader.spec.params, request.reading.params)
    model = text_model_of(request)
    # Examples are shown to the model even where nothing else is learnt from supports.
    shown: Shown = ([], [], [])
    if len(request.support) and reader.takes_exemplars(model):
        shown = samples_for(request, values, hooks)
    if request.reading.share == "alone":
        request = replace(request, support=SupportSet(()))
    if getattr(reader, "learns", False) and len(request.support):
        return _learn_together(request, reader, values, model, hooks, cache, seconds)
    read = _read(request, reader, values, model, hooks, cache, seconds, shown)
    if method is reader:
        return read
    seen = learn(replace(request, text={}), method, params, hooks, cache, seconds)
    return _joined(request, seen, read, method, params, hooks, cache, seconds)


def note_understanding(
    request: SegmentRequest, fit: Fit, plane: Plane, hooks: Hooks
) -> None:
    """Say once, on the first plane, which phrases are not understood.

    Parameters
    ----------
    request : SegmentRequest
        Where text is alone; with supports they tell what it is worth.
    fit : Fit
        Its ``trust`` and ``notes`` are filled in.
    plane : Plane
        The first that is not blank.
    hooks : Hooks
        For cancelling.
    """
    fitted = fit.learnt.fitted
    if not request.text or not isinstance(fitted, TextFitted):
        return
    fit.trust.update(dict.fromkeys(request.text, 1.0))
    if len(request.support) and request.reading.share != "alone":
        return
    for row in understanding(fitted, request.text, plane, hooks):
        fit.trust[row.value] = row.trust
        if row.verdict == NOT_UNDERSTOOD:
            fit.notes.append(f"{textwrap.shorten(row.phrase, SHOWN)!r}: {ADVICE}")


def text_model_of(request: SegmentRequest) -> Any:
    """Load the model that reads the phrases of a request.

    Raises
    ------
    ModelError
        If the method needs a model of another kind.
    WeightsError
        If none is installed, or weights are missing or damaged.
    """
    reader, reading = _reader(request), request.reading
    kinds: tuple[str, ...] = getattr(reader, "model_kinds", ("clip",))
    name = reading.model
    if name == "auto" and reading.checkpoint is None:
        fitting = (n for n in installed_text_models() if _kind(n) in kinds)
        name = next(fitting, "")
        if not name:
            raise WeightsError(_none_installed(reader.spec.name, kinds))
    elif name != "auto" and _kind(name) not in kinds:
        raise ModelError(_wrong_kind(reader.spec.name, name, kinds))
    model: Any = load_text_model(name, reading.checkpoint, request.device)
    if model.spec.text not in kinds:
        raise ModelError(_wrong_kind(reader.spec.name, model.spec.name, kinds))
    return model


def _reader(request: SegmentRequest) -> Any:
    reader = get_method(request.reading.method)
    if not reader.spec.reads_text:
        raise ModelError(
            f"The method {reader.spec.name!r} learns from supports and reads no text. "
            "Choose a method that does, such as 'text', for the phrases."
        )
    return reader


def _kind(name: str) -> str:
    return get_model_spec(name).text


def _none_installed(method: str, kinds: Sequence[str]) -> str:
    fitting = [s for s in model_specs() if s.text in kinds]
    # Methods that are made for one model are called as it is.
    own = (s for s in fitting if s.name.startswith(f"{method}/"))
    best = next(own, next((s for s in fitting if s.download_url), fitting[0]))
    lacks = "that reads text" if len(kinds) > 1 else f"for the method {method!r}"
    return (
        f"No model {lacks} is installed. {how_to_get(best)} Or use weights that you "
        "have: install them with napari-fewshot models import FILE, or name them with "
        "checkpoint=... (--checkpoint FILE on the command line)."
    )


def _wrong_kind(method: str, model: str, kinds: Sequence[str]) -> str:
    names = [s.name for s in model_specs() if s.text in kinds]
    return (
        f"The method {method!r} does not work with the model {model!r}. Use one of: "
        f"{', '.join(names[:6])}; or method='text'."
    )


def _names(request: SegmentRequest) -> dict[int, str]:
    """Names of all classes, those of the user's table first."""
    found = {v: str(v) for v in request.prompts}
    found.update(request.support.class_names)
    found.update({v: t.name or str(v) for v, t in request.text.items()})
    found.update({v: n for v, n in dict(request.classes).items() if v in found})
    return found


def _key(request: SegmentRequest, model: Any, values: CommonParams) -> list[Any]:
    """Return what reading depends on."""
    phrases = {v: repr(t) for v, t in request.text.items()}
    return [
        phrases,
        request.reading.method,
        model.spec.name,
        getattr(model, "sha256", ""),
        params_to_dict(values),
        _file_digest(getattr(values, "head", "")),
    ]


def _file_digest(path: str) -> str:
    """Return the SHA-256 of a file; "" if there is none, its reader says so."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return ""


def _read(
    request: SegmentRequest,
    reader: Any,
    values: CommonParams,
    model: Any,
    hooks: Hooks,
    cache: FitCache | None,
    seconds: dict[str, float],
    shown: Shown,
) -> Fit:
    """Encode the phrases, with examples from supports, or find them in the cache."""
    start = time.perf_counter()
    samples, digests, changes = shown
    key = json.dumps(["text", digests, *_key(request, model, values)])
    learnt = cache.get(key) if cache is not None else None
    if learnt is None:
        fitted = reader.fit_text(request.text, values, model, hooks, samples=samples)
        learnt = Learnt(fitted, Reliability())
        if cache is not None:
            cache.put(key, learnt)
    seconds["read"] = time.perf_counter() - start
    names, prompting = _names(request), None
    if not len(request.support):
        prompting = prepare_prompting(request, learnt, (), (), None)
    notes = [*changes, *getattr(learnt.fitted, "notes", ())]
    fillable = dict.fromkeys(names, False)
    return Fit(learnt, names, model, digests, fillable, prompting, notes)


def _learn_together(
    request: SegmentRequest,
    reader: Any,
    values: CommonParams,
    model: Any,
    hooks: Hooks,
    cache: FitCache | None,
    seconds: dict[str, float],
) -> Fit:
    """Fit a method that reads phrases and learns from supports."""
    start = time.perf_counter()
    samples, digests, notes = samples_for(request, values, hooks)
    key = json.dumps(["both", digests, *_key(request, model, values)])
    learnt = cache.get(key) if cache is not None else None
    if learnt is None:
        fitted = reader.fit_text(request.text, values, model, hooks, samples=samples)
        learnt = Learnt(fitted, getattr(fitted, "reliability", Reliability()))
        if cache is not None:
            cache.put(key, learnt)
    seconds["fit"] = time.perf_counter() - start
    names = _names(request)
    prompting = prepare_prompting(
        request, learnt, samples, request.support.label_values, None
    )
    notes += getattr(learnt.fitted, "notes", ())
    return Fit(
        learnt, names, model, digests, dict.fromkeys(names, False), prompting, notes
    )


def _joined(
    request: SegmentRequest,
    seen: Fit,
    read: Fit,
    method: Method,
    params: CommonParams,
    hooks: Hooks,
    cache: FitCache | None,
    seconds: dict[str, float],
) -> Fit:
    """Let phrases and supports decide together."""
    start = time.perf_counter()
    reading: Any = read.learnt.fitted
    model = read.model
    values = make_params(_reader(request).spec.params, request.reading.params)
    how = [request.method, request.model, params_to_dict(params), request.reading.share]
    key = json.dumps(["joined", seen.digests, how, *_key(request, model, values)])
    learnt = cache.get(key) if cache is not None else None
    if learnt is None:
        samples, _, _ = samples_for(request, params, hooks)
        fused = fuse_text(
            seen.learnt,
            reading,
            samples,
            method=method,
            params=params,
            encoder=seen.model,
            share=request.reading.share,
            hooks=hooks,
        )
        # A new one: what supports alone said of the last plane is not what both say.
        old = seen.learnt
        learnt = Learnt(fused, fused.reliability, old.judge, old.guide, old.familiarity)
        if cache is not None:
            cache.put(key, learnt)
    seconds["join"] = time.perf_counter() - start
    names = {**_names(request), **seen.names}
    return replace(
        seen,
        learnt=learnt,
        names={v: n for v, n in names.items() if v in {*seen.names, *request.text}},
        fillable={**dict.fromkeys(request.text, False), **seen.fillable},
        # Phrases say themselves what is not there.
        absence={},
        notes=list(dict.fromkeys([*seen.notes, *read.notes])),
    )
