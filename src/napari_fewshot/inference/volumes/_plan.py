"""What a request for a volume comes to: requests for planes, and what follows them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from napari_fewshot.data import SupportSet
from napari_fewshot.errors import DataError, PromptError, SupportError
from napari_fewshot.inference._prompted import with_model
from napari_fewshot.inference._reading import leading_method
from napari_fewshot.inference.volumes._cuts import (
    SIDES,
    cut_image,
    cutting_of,
    depth_of,
)
from napari_fewshot.inference.volumes._sides import cut_supports
from napari_fewshot.inference.volumes._slices import (
    common_distance,
    offsets_of,
    stack_supports,
    with_neighbours,
)
from napari_fewshot.methods import CommonParams

if TYPE_CHECKING:
    from napari_fewshot.inference._request import SegmentRequest
    from napari_fewshot.inference.volumes._cuts import Cutting

# Parameters that say what happens to a volume; what segments planes does not see them.
VOLUME_PARAMS = (
    "view",
    "stack_reach",
    "smooth_depth",
    "min_planes",
    "min_volume",
    "largest_volume",
    "link",
)
USUAL = {f.name: f.default for f in fields(CommonParams) if f.name in VOLUME_PARAMS}


@dataclass(frozen=True, eq=False)
class Part:
    """One request for planes.

    Attributes
    ----------
    name : str
        What is seen: ``"planes"``, ``"y"`` or ``"x"``.
    request : SegmentRequest
    cutting : Cutting, optional
        How the volume was cut, for views from the side.
    """

    name: str
    request: SegmentRequest
    cutting: Cutting | None = None


@dataclass(frozen=True, eq=False)
class VolumePlan:
    """How a volume is segmented.

    Attributes
    ----------
    request : SegmentRequest
        As it was asked.
    params : CommonParams
        Of the method that leads.
    parts : list of Part
        The planes themselves first.
    notes : list of str
        What could not be done, and why, in words for the user.
    """

    request: SegmentRequest
    params: CommonParams
    parts: list[Part]
    notes: list[str] = field(default_factory=list)

    @property
    def sigma(self) -> float:
        """Smoothing along z, in planes."""
        scale = self.request.query.scale
        known = scale is not None and len(scale) == 3
        return self.params.smooth_depth / (scale[0] if known and scale else 1.0)

    @property
    def draws(self) -> bool:
        """Whether labels are drawn anew from maps."""
        return len(self.parts) > 1 or self.params.smooth_depth > 0

    @property
    def filters(self) -> bool:
        """Whether objects in space are judged."""
        params = self.params
        return (
            params.min_planes > 1
            or params.min_volume > 0
            or bool(params.largest_volume)
        )

    @property
    def links(self) -> bool:
        """Whether object numbers are linked."""
        return self.params.link != "none"

    @property
    def finishes(self) -> bool:
        """Whether anything follows the parts."""
        return self.draws or self.filters or self.links


def plan_volume(request: SegmentRequest) -> VolumePlan | None:
    """Return how a request that treats its query as a volume is carried out.

    Parameters
    ----------
    request : SegmentRequest
        With parameters of volumes among those of its method.

    Returns
    -------
    VolumePlan, optional
        None where nothing of a volume was asked for.

    Raises
    ------
    DataError
        If the query is no volume, or has not the axis to link along.
    SupportError
        If no view from the side can learn from the supports.
    PromptError
        If there are prompts alone, which say nothing of views from the side.
    TypeError, ValueError
        For unknown parameters or values outside their limits.
    """
    given = {*request.params, *request.reading.params}
    if request.task != "segment" or not given & set(VOLUME_PARAMS):
        return None
    request = with_model(request)
    method, params = leading_method(request)
    if all(getattr(params, name) == usual for name, usual in USUAL.items()):
        return None
    by_text = bool(request.text) and method.spec.name == request.reading.method
    changes = _part_params(params)
    base = _with_params(request, changes, by_text=by_text)
    _check_axes(request, params)
    notes: list[str] = []
    parts = [Part("planes", base)]
    if params.view == "stack":
        parts = [Part("planes", _stacked(base, params.stack_reach, notes))]
    elif params.view == "three":
        parts += _from_the_sides(base, notes)
    plan = VolumePlan(request, params, parts, notes)
    if not plan.draws:
        return plan
    return replace(
        plan,
        parts=[
            replace(p, request=replace(p.request, keep_probabilities=True))
            for p in parts
        ],
    )


def link_axes(axes: str, link: str) -> Literal["z", "t", "zt"]:
    """Return which axes numbers are linked over: ``"z"``, ``"t"`` or ``"zt"``.

    Parameters
    ----------
    axes : str
        Of an image or its labels.
    link : {"z", "t", "auto"}
        What was asked for. Over time, the objects of a volume are linked in depth
        first.

    Raises
    ------
    DataError
        If that axis is not there.
    """
    found = "".join(a for a in "zt" if a in axes)
    if not found or (link in "zt" and link not in found):
        what = "neither a z nor a t axis" if not found else f"no {link} axis"
        raise DataError(
            f"Objects can't be linked: the image has {what}. Say which axis is which, "
            "for example axes='tyx', or use link='none'."
        )
    if link == "z" or found == "z":
        return "z"
    return "t" if found == "t" else "zt"


def _check_axes(request: SegmentRequest, params: CommonParams) -> None:
    if params.view != "planes" or params.smooth_depth > 0:
        depth_of(request.query)
    if params.link != "none":
        link_axes(request.query.axes, params.link)


def _part_params(params: CommonParams) -> dict[str, Any]:
    """Return what the parts are told instead of the parameters of the volume."""
    changes: dict[str, Any] = dict(USUAL)
    if params.link != "none" and params.instances == "none":
        changes["instances"] = "components"
    return changes


def _with_params(
    request: SegmentRequest, changes: dict[str, Any], *, by_text: bool
) -> SegmentRequest:
    def changed(values: Any, more: dict[str, Any]) -> dict[str, Any]:
        kept = {k: v for k, v in values.items() if k not in VOLUME_PARAMS}
        return {**kept, **{k: v for k, v in more.items() if k not in VOLUME_PARAMS}}

    reading = request.reading
    reading = replace(
        reading, params=changed(reading.params, changes if by_text else {})
    )
    params = changed(request.params, {} if by_text else changes)
    return replace(request, params=params, reading=reading)


def _stacked(request: SegmentRequest, reach: int, notes: list[str]) -> SegmentRequest:
    """Return a request in which planes have their neighbours as channels."""
    query, supports = request.query, request.support
    if any(s.source.n_channels != query.n_channels for s in supports):
        return request  # refused, in the user's own terms, by the run itself
    distance = common_distance([query, *(s.source for s in supports)])
    stacked, flat = stack_supports(supports, reach, distance)
    if len(flat) and len(flat) == len(supports):
        notes.append(
            "All supports are single planes: neighbouring planes teach nothing, so "
            "planes were segmented one by one (view=planes). Supports that are volumes "
            "would change that."
        )
        return request
    if flat:
        notes.append(
            f"{', '.join(flat)}: a single plane, without neighbours; it was repeated."
        )
    if query.n_channels > 1:
        notes.append(
            "The image has channels of its own: networks see the first three and so "
            "little of the neighbouring planes; methods on pixels see all."
        )
    seen = with_neighbours(query, offsets_of(query, reach, distance))
    return replace(request, query=seen, support=stacked)


def _from_the_sides(request: SegmentRequest, notes: list[str]) -> list[Part]:
    """Return the requests for the volume cut along y and x."""
    if not len(request.support) and not request.text:
        raise PromptError(
            "Prompts are on single planes and say nothing of views from the side. Add "
            "a support that is a volume, or use view='planes' or 'stack'."
        )
    if len(request.support):
        request.support.check()
    known = set(request.support.label_values)
    found, whys = [], []
    for side in SIDES:
        cutting = cutting_of(request.query, side)
        supports, reasons = cut_supports(request.support, side)
        missing = known - set(supports.label_values)
        if known and missing == known:
            whys.append(f"Cuts along {side} were left out: {'; '.join(reasons)}.")
            continue
        notes += [f"Left out of cuts along {side}: {r}." for r in reasons]
        if missing:
            names = request.support.class_names
            what = ", ".join(names[v] for v in sorted(missing))
            notes.append(f"Cuts along {side} teach nothing of {what}.")
        seen = replace(
            request,
            query=cut_image(request.query, cutting),
            support=supports if len(supports) else SupportSet(()),
            prompts={},
            planes=None,
            region=None,
            inside=None,
            first=None,
        )
        found.append(Part(side, seen, cutting))
    if not found:
        raise SupportError(
            f"The volume can't be looked at from the side. {whys[0]} Give a support "
            "that is an annotated volume, or use view='planes' or 'stack'."
        )
    notes += whys
    return found
