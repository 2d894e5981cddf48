"""How a map from supports and a map from phrases become one map of a class.

Both maps are sure of themselves, right or wrong, so that a mean of their log-odds is
little more than a vote of the surer one. What differs is which objects they find: one
support shows one look of a thing, and words another. So the maps are joined by parts,
that is by connected regions:

* where both find something, the boundary is drawn by the mean of their log-odds, in
  which the supports, whose map is finer, have at least two thirds;
* what only the supports find stays;
* what only the text finds is added if it is likely enough to be real, by Bayes' rule.
  With P the precision of the parts that text finds and R the recall of the supports, a
  part that is found by the text and not by the supports is real with the odds
  P / (1 - P) * (1 - R). It counts from half the Dice in reach on, which is where adding
  it raises the expected Dice (Lipton et al., Optimal thresholding of classifiers to
  maximize F1 measure, 2014).

P and R come from supports that were left out; copies of a single one tell little of who
learnt from it, and are believed accordingly. A phrase that means nothing to the model
finds nothing on supports, so that it has no say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._fusion import log_odds, sigmoid
from napari_fewshot.methods._validation import dice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import BoolArray, FloatArray

    # A mask, and probabilities of either side (H, W).
    Pair = tuple[BoolArray, FloatArray, FloatArray]

# How sharply the better side outweighs the other (as in `methods._fusion`), and the gap
# in Dice beyond which the worse side has no say. Of few supports that were left out the
# gap is believed n / (n + HOLD): with one more support the others do much better.
SHARPNESS, MAX_GAP, HOLD = 8.0, 0.3, 4.0
# Most of the share of text in the boundary of what both find, and its share before any
# evidence.
MOST_SHARE = 1 / 3
# On altered copies of a single support whoever learnt from it does so much better than
# on other images that its figures there count for this much. On scenes of
# benchmarks/tiny_captions.py: Dice 0.94 on copies, 0.57 on other scenes.
COPY_WORTH = 0.6
# A part is right if at least this share of it is inside the truth, and parts of two
# maps are of one object if at least this share of the one is inside the other.
RIGHT, TOUCH = 0.4, 0.1
# Precision and recall before any evidence, which weighs as much as one support.
PRIOR, PRIOR_WEIGHT = 0.5, 1.0
# Of equals the blend is preferred to the supports alone (Dice).
BONUS = 0.01
# A part is never believed less than this before it counts, and a phrase that finds less
# of what is on supports (Dice) has no say, however little these teach.
LEAST_LEVEL, LEAST_DICE = 0.1, 0.05


@dataclass(frozen=True)
class Blend:
    """How text and supports become one map of a class; see the module.

    Attributes
    ----------
    share : float
        Weight of the text's log-odds, in [0, 1]; the supports have the rest.
    gate : bool
        Whether the class is left out where the text does not fit at all.
    image_dice, text_dice : float
        What either side does on the supports; nan where not known.
    added : float, optional
        Greatest log-odds of a part that only the text finds; below 0 it is left out.
        None joins the maps pixel by pixel, without regard to parts.
    """

    share: float
    gate: bool = False
    image_dice: float = float("nan")
    text_dice: float = float("nan")
    added: float | None = None

    def __call__(self, image: FloatArray, text: FloatArray) -> FloatArray:
        """Return probabilities (H, W) of the probabilities of either side."""
        if self.gate and not (text >= 0.5).any():
            return np.zeros_like(image)
        mine, other = log_odds(image), log_odds(text)
        odds = (1 - self.share) * mine + self.share * other
        if self.added is not None:
            seen, read = mine >= 0, other >= 0
            odds = np.where(lone_parts(seen, read), mine, odds)
            limited = np.minimum(other, np.float32(self.added))
            odds = np.where(lone_parts(read, seen) & ~seen, limited, odds)
        return sigmoid(odds)

    @property
    def told(self) -> str:
        """The blend in words."""
        share = f"{self.share:.0%} text"
        return f"with parts from text, {share}" if (self.added or -1) > 0 else share


def choose_blend(pairs: Sequence[Pair], *, is_copy: bool, shown: bool = False) -> Blend:
    """Return the blend of one class.

    Parameters
    ----------
    pairs : sequence of (truth, image, text)
        (H, W) each: a mask, and probabilities of a side that had not seen it.
    is_copy : bool
        Whether these are copies of a single support, which flatter who learnt from it.
    shown : bool
        Whether the model that reads was shown objects of this support as examples:
        then copies of it flatter the text as well.
    """
    known = [p for p in pairs if p[0].any()]
    if not known:
        return Blend(MOST_SHARE)
    image = float(np.mean([dice(seen >= 0.5, t) for t, seen, _ in known]))
    text = float(np.mean([dice(said >= 0.5, t) for t, _, said in known]))
    alone = Blend(0.0, image_dice=image, text_dice=text)
    if text < LEAST_DICE:
        return alone
    worth = COPY_WORTH if is_copy else 1.0
    trust = worth if shown else 1.0
    gap = trust * text - worth * image
    # What copies flatter and is worse all the same is worse.
    believed = 1.0 if is_copy else len(known) / (len(known) + HOLD)
    if (text - image) * believed > MAX_GAP:
        return Blend(1.0, image_dice=image, text_dice=text)
    share = 1 / (1 + float(np.exp(-SHARPNESS * gap))) if gap > -MAX_GAP else 0.0
    hits = [share_right(truth, seen >= 0.5) for truth, seen, _ in known]
    right = [share_right(said >= 0.5, truth) for truth, _, said in known]
    recall = _held_back(hits, worth, is_copy=is_copy)
    precision = _held_back(right, trust, is_copy=is_copy)
    odds = precision / (1 - precision) * (1 - recall)
    level = max(LEAST_LEVEL, worth * image / 2, trust * text / 2)
    added = float(np.log(odds) - np.log(level / (1 - level)))
    mix = Blend(min(share, MOST_SHARE), image_dice=image, text_dice=text, added=added)
    if is_copy:
        return mix
    # With supports that were left out, the mix must earn its place.
    return mix if _mean_dice(known, mix) + BONUS >= image else alone


def lone_parts(mine: BoolArray, other: BoolArray) -> BoolArray:
    """Return the parts (H, W) of a mask that another mask hardly touches.

    Parameters
    ----------
    mine, other : array (H, W) bool
        Parts are 8-connected.
    """
    parts, sizes, both = _overlaps(mine, other)
    lone = both < TOUCH * sizes
    lone[0] = False
    found: BoolArray = lone[parts]
    return found


def share_right(mine: BoolArray, other: BoolArray) -> float:
    """Return the share of a mask's area in parts that are (mostly) in another mask.

    The precision of what was found against the truth; with both exchanged, the recall.

    Parameters
    ----------
    mine, other : array (H, W) bool
        Parts are 8-connected.

    Returns
    -------
    float
        nan if there is no part.
    """
    _, sizes, both = _overlaps(mine, other)
    sizes, both = sizes[1:], both[1:]
    if not len(sizes):
        return float("nan")
    return float(sizes[both >= RIGHT * sizes].sum() / sizes.sum())


def _overlaps(mine: BoolArray, other: BoolArray) -> tuple[Any, Any, Any]:
    """Return numbered parts (H, W), their areas, and how much is in the other mask."""
    from scipy import ndimage

    parts, count = ndimage.label(mine, np.ones((3, 3), int))
    flat = parts.ravel()
    sizes = np.bincount(flat, minlength=count + 1)
    both = np.bincount(flat[other.ravel()], minlength=count + 1)
    return parts, sizes, both


def _held_back(values: Sequence[float], worth: float, *, is_copy: bool) -> float:
    """Return the mean of rates of supports, held back by a prior.

    Who finds nothing where something is has no precision to speak of: nan is 0.
    """
    known = [worth * v if v == v else 0.0 for v in values]
    # Copies are not independent: together they are one support.
    known = [float(np.mean(known))] if is_copy else known
    return (sum(known) + PRIOR_WEIGHT * PRIOR) / (len(known) + PRIOR_WEIGHT)


def _mean_dice(known: Sequence[Pair], blend: Blend) -> float:
    found = [dice(blend(seen, said) >= 0.5, truth) for truth, seen, said in known]
    return float(np.mean(found))
