import numpy as np
import pytest

from napari_fewshot.data import parse_phrase
from napari_fewshot.errors import DataError
from napari_fewshot.ops.parts import part_of, two_groups
from napari_fewshot.ops.referring import select


def boxes(*corners, shape=(60, 80)):
    """Return objects 1, 2, ... of (row, column, height, width)."""
    objects = np.zeros(shape, np.int32)
    for number, (row, column, height, width) in enumerate(corners, 1):
        objects[row : row + height, column : column + width] = number
    return objects


# 1 upper left (36 pixels), 2 upper right (100), 3 lower left (4), 4 lower right (64),
# 5 in the middle (25).
SCENE = boxes(
    (5, 5, 6, 6), (4, 60, 10, 10), (50, 10, 2, 2), (48, 66, 8, 8), (28, 38, 5, 5)
)


def kept(phrase, objects=SCENE, **options):
    return select(objects, parse_phrase(phrase), **options).kept


@pytest.mark.parametrize(
    ("phrase", "numbers"),
    [
        ("nuclei", {1, 2, 3, 4, 5}),
        ("nuclei on the left", {1, 3}),
        ("nuclei on the right", {2, 4, 5}),
        ("nuclei in the left third of the image", {1, 3}),
        ("upper left nucleus", {1}),
        ("nuclei in the lower right corner", {4}),
        ("nucleus in the centre", {5}),
        ("nuclei in the corners", {1, 2, 3, 4}),
        ("largest nucleus", {2}),
        ("smallest nucleus", {3}),
        ("second largest nucleus", {4}),
        ("two largest nuclei", {2, 4}),
        ("the three smallest nuclei", {3, 5, 1}),
        ("smallest nucleus on the right", {5}),
        ("leftmost nucleus", {1}),
        ("rightmost nucleus", {4}),
        ("topmost nucleus", {1}),
        ("lowest nucleus", {4}),
        ("most central nucleus", {5}),
        ("second nucleus from the left", {3}),
        ("third nucleus from the top", {5}),
        ("large nuclei", {1, 2, 4, 5}),
        ("small nuclei", {3}),
        ("single nucleus", {2}),
        ("all nuclei", {1, 2, 3, 4, 5}),
    ],
)
def test_choosing(phrase, numbers):
    # The middle object covers columns 38 to 42: its centre is right of the middle.
    assert set(kept(phrase)) == numbers


def test_the_order_is_kept():
    assert kept("the three smallest nuclei") == (3, 5, 1)
    assert kept("two nuclei") == (2, 4)


def test_numbers_and_pixels_stay():
    found = select(SCENE, parse_phrase("two largest nuclei"))
    assert found.objects.dtype == np.int32
    assert np.array_equal(found.objects, np.where(np.isin(SCENE, [2, 4]), SCENE, 0))
    assert np.array_equal(found.mask, np.isin(SCENE, [2, 4]))


def test_connected_parts_of_a_mask_are_objects():
    mask = np.zeros((20, 20), bool)
    mask[2:5, 2:5] = mask[5:8, 5:8] = True  # touch at a corner: one object
    mask[15, 15] = True
    assert select(mask, parse_phrase("largest cell")).mask.sum() == 18


def test_borders():
    objects = boxes((0, 10, 4, 4), (20, 2, 5, 5), (30, 40, 5, 5), (55, 70, 5, 10))
    assert set(kept("cells touching the edge", objects)) == {1, 4}
    assert set(kept("cells near the border", objects)) == {1, 2, 4}
    assert set(kept("cells not touching the border", objects)) == {2, 3}


def test_within_a_frame():
    frame = np.zeros(SCENE.shape, bool)
    frame[:, 55:] = True
    assert set(kept("nuclei", within=frame)) == {2, 4}
    assert set(kept("nuclei on the left", within=frame)) == {2}
    assert set(kept("largest nucleus", within=frame)) == {2}
    assert set(kept("nuclei on the right", within=frame)) == {4}
    frame[:] = False
    frame[4:20, 60:] = True
    assert set(kept("nuclei touching the border", within=frame)) == {2}


def test_left_is_the_viewers_unless_the_plane_is_radiological():
    kidneys = boxes((20, 10, 12, 8), (20, 60, 12, 8))
    assert kept("left kidney", kidneys) == (1,)
    assert kept("left kidney", kidneys, radiological=True) == (2,)
    assert kept("kidney_left", kidneys, radiological=True) == (2,)
    for same in ("kidney on the left", "leftmost kidney"):
        assert kept(same, kidneys, radiological=True) == (1,)
    cells = parse_phrase("left nucleus")
    assert select(kidneys, cells, radiological=True).kept == (1,)
    both = parse_phrase("right kidney on the left side")
    assert select(kidneys, both, radiological=True).kept == (1,)
    assert select(kidneys, both).kept == ()


def test_a_single_one_on_the_other_side_is_not_taken():
    found = select(boxes((20, 60, 12, 8)), parse_phrase("left kidney"))
    assert found.kept == ()
    assert not found.mask.any()
    assert "nothing is kept" in found.notes[0]


def test_positions_to_each_other_if_all_lie_on_one_side():
    found = select(boxes((20, 50, 8, 8), (20, 65, 8, 8)), parse_phrase("left kidney"))
    assert found.kept == (1,)
    assert "to each other" in found.notes[0]
    alike = boxes((5, 60, 8, 8), (40, 60, 8, 8))
    assert (
        select(alike, parse_phrase("left kidney")).kept == (1, 2)
        or not select(alike, parse_phrase("left kidney")).kept
    )


def test_what_cannot_be_satisfied_is_told():
    one = boxes((5, 5, 4, 4))
    found = select(one, parse_phrase("two largest nuclei"))
    assert found.kept == (1,)
    assert found.notes == ("Asked for 2 nuclei, but found only 1.",)
    found = select(one, parse_phrase("second largest nucleus"))
    assert found.kept == ()
    assert "only 1" in found.notes[0]
    found = select(SCENE, parse_phrase("two nuclei"))
    assert "5 nuclei were found, 2 asked for" in found.notes[0]
    same = boxes((5, 5, 4, 4), (20, 20, 4, 4), (40, 40, 4, 5))
    found = select(same, parse_phrase("large nuclei"))
    assert found.kept == (1, 2, 3)
    assert "same size" in found.notes[0]


def test_what_was_done_is_told():
    done = select(SCENE, parse_phrase("the two largest nuclei on the right")).done
    assert done == (
        "Of 5 objects of 'nuclei', 2 kept: in the right half, then the largest 2."
    )
    assert select(SCENE, parse_phrase("nuclei")).done == ""


def test_nothing_there():
    empty = np.zeros((8, 8), bool)
    assert select(empty, parse_phrase("nuclei")).notes == ()
    found = select(empty, parse_phrase("largest nucleus"))
    assert not found.mask.any()
    assert "no nucleus" in found.notes[0]
    assert select(np.zeros((0, 4), bool), parse_phrase("left cell")).kept == ()


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((3, 4, 5), int),
        np.zeros((3, 4)),
        np.array([[-1, 0]]),
        np.array([[2**31]]),
    ],
)
def test_other_arrays_are_refused(wrong):
    with pytest.raises(DataError):
        select(wrong, parse_phrase("cell"))


def test_another_shape_of_the_frame_is_refused():
    with pytest.raises(DataError, match="same plane"):
        select(SCENE, parse_phrase("cell"), np.ones((3, 3), bool))


def test_numbers_may_be_large_and_sparse():
    objects = np.where(SCENE == 2, 2_000_000_000, SCENE).astype(np.int64)
    found = select(objects, parse_phrase("upper half of the largest nucleus"))
    assert found.kept == (2_000_000_000,)
    assert found.mask.sum() == 50


@pytest.mark.parametrize(
    ("side", "rows", "columns"),
    [
        ("upper", slice(0, 4), slice(0, 12)),
        ("lower", slice(8, 12), slice(0, 12)),
        ("left", slice(0, 12), slice(0, 4)),
        ("right", slice(0, 12), slice(8, 12)),
        ("central", slice(4, 8), slice(0, 12)),
    ],
)
def test_thirds_of_a_square(side, rows, columns):
    expected = np.zeros((12, 12), bool)
    expected[rows, columns] = True
    assert np.array_equal(part_of(np.ones((12, 12), bool), (side,), 1 / 3), expected)


def test_two_directions_cut_a_corner():
    found = part_of(np.ones((10, 10), bool), ("upper", "left"), 0.5)
    assert found[:5, :5].all()
    assert found.sum() == 25


def test_a_slanted_object_is_cut_across_its_axis():
    rows, columns = np.mgrid[:81, :81] - 40.0
    axis = np.array([np.cos(np.radians(30)), np.sin(np.radians(30))])
    along = rows * axis[0] + columns * axis[1]
    across = rows * axis[1] - columns * axis[0]
    ellipse = (along / 30) ** 2 + (across / 10) ** 2 <= 1
    found = part_of(ellipse, ("upper",), 1 / 3)
    # The upper third of the axis ends at -10; half a pixel either way.
    assert (found == (ellipse & (along <= -10))).mean() > 0.995
    sideways = part_of(ellipse, ("left",), 0.5)
    assert (sideways & (columns > 10)).sum() == 0


def test_parts_together_are_the_whole():
    ball = np.hypot(*(np.mgrid[:31, :31] - 15)) < 12
    upper, lower = (part_of(ball, (s,), 0.5) for s in ("upper", "lower"))
    assert np.array_equal(upper | lower, ball)
    assert np.array_equal(part_of(ball, ("left",), 1.0), ball)
    assert not part_of(np.zeros((4, 4), bool), ("left",), 0.5).any()
    assert part_of(np.ones((1, 1), bool), ("upper",), 1.0).all()


def test_the_part_of_every_object_is_cut():
    found = select(SCENE, parse_phrase("upper half of the nuclei"))
    assert set(found.kept) == {1, 2, 3, 4, 5}
    assert (found.objects == 2).sum() == 50
    assert "cut to the upper 50%" in found.done


def test_any_mix_of_words_is_survived():
    said = "left right upper lower middle largest smallest second two three 3 all"
    said += " single near touching the edge of image in on from corner third half pole"
    said += " kidney nuclei cells and not left-most large \N{SLIGHTLY SMILING FACE} ' ("
    words, rng = (
        [*said.split(), "\x00", "\x01", "\u7ec6\u80de"],
        np.random.default_rng(4),
    )
    for _ in range(100):
        phrase = " ".join(rng.choice(words, rng.integers(0, 9)))
        referring = parse_phrase(phrase)
        found = select(SCENE, referring, radiological=bool(rng.integers(2)))
        assert np.isin(found.objects[found.mask], found.kept).all()
        assert np.array_equal(found.objects[found.mask], SCENE[found.mask])
        assert set(found.kept) <= {1, 2, 3, 4, 5}
        assert len(found.kept) == 5 or not referring.plain


def test_two_groups_by_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = np.round(rng.normal(size=rng.integers(2, 12)), 1)
        ordered = np.unique(values)
        if len(ordered) == 1:
            continue
        costs = [
            sum(
                ((g - g.mean()) ** 2).sum()
                for g in (values[values <= c], values[values > c])
            )
            for c in ordered[:-1]
        ]
        level = two_groups(values)
        assert np.isclose(costs[list(ordered).index(level)], min(costs))
    assert (np.full(4, 2.0) > two_groups(np.full(4, 2.0))).sum() == 0
