"""A batch from a script: what it takes, what it writes, what stops it and what not."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

import napari_fewshot as nf
from napari_fewshot.session._batch_items import items_of
from napari_fewshot.session._batch_page import write_page
from napari_fewshot.session._batch_records import Records
from napari_fewshot.session._batch_rows import row_of
from napari_fewshot.session._batch_table import read_jobs

FAST = {"method": "pixel", "trees": 5, "leave_one_out": False}


@pytest.fixture
def folder(tmp_path, blob_pair):
    for number in range(4):
        image, labels = blob_pair(number, (48, 56), 4)
        tifffile.imwrite(tmp_path / f"c{number}.tif", image)
        (tmp_path / "masks").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "masks" / f"c{number}.tif", labels.astype("u1"))
    return tmp_path


def many(folder, queries, out="out", **kwargs):
    support = nf.Support(folder / "c0.tif", folder / "masks" / "c0.tif")
    given = {"support": support, "out": folder / out, **FAST, **kwargs}
    return nf.segment_many(queries, **given)


def report(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def page_rows(path):
    text = path.read_text()
    begin = text.index('id="rows">') + len('id="rows">')
    return json.loads(text[begin : text.index("</script>", begin)])


def test_a_folder_from_a_script(folder):
    told = []
    table = many(folder, folder, on_progress=told.append, scale=(0.5, 2.0))
    assert table["image"].tolist() == [f"c{n}.tif" for n in range(4)]
    assert table["status"].tolist() == ["done"] * 4
    out = folder / "out"
    for n, row in table.iterrows():
        labels = tifffile.imread(out / row["file"])
        truth = tifffile.imread(folder / "masks" / f"c{n}.tif")
        assert nf.evaluate(labels, truth)["dice"][0] > 0.8
        assert row["area class 1"] == (labels == 1).sum()
        # A pixel of 0.5 x 2 has the area 1.
        assert float(row["size class 1"]) == row["area class 1"]
    assert [p.done for p in told] == [0, 1, 2, 3, 4]
    assert told[0].stage == "c0.tif"
    assert len(json.loads((out / "provenance.json").read_text())) == 4
    assert not list(out.glob("journal*"))
    assert [r["image"] for r in report(out / "report.csv")] == table["image"].tolist()
    cards = page_rows(out / "report.html")
    assert all((out / card["picture"]).is_file() for card in cards)
    assert all((out / card["link"]).is_file() for card in cards)


def test_again_is_free_and_says_the_same(folder):
    first = many(folder, folder)
    times = {p: p.stat().st_mtime_ns for p in (folder / "out").glob("*_labels.tif")}
    again = many(folder, folder)
    assert again["status"].tolist() == ["done before"] * 4
    columns = [c for c in first if c != "status"]
    assert again[columns].astype(str).equals(first[columns].astype(str))
    assert times == {p: p.stat().st_mtime_ns for p in times}
    other = many(folder, folder, threshold=0.6)
    assert other["status"].tolist() == ["done"] * 4
    os.utime(folder / "c2.tif", ns=(5, 5))
    changed = many(folder, folder, threshold=0.6)
    assert changed["status"].tolist() == ["done before"] * 2 + ["done", "done before"]


def test_prompts_decide_too(folder):
    point = np.argwhere(tifffile.imread(folder / "masks" / "c1.tif"))[0].tolist()
    query = folder / "c1.tif"
    prompts = nf.PromptSet(points=[point])
    assert many(folder, query, prompts=prompts)["status"][0] == "done"
    assert many(folder, query, prompts=prompts)["status"][0] == "done before"
    other = nf.PromptSet(points=[point], point_labels=[0])
    assert many(folder, query, prompts=other)["status"][0] == "done"


def test_arrays_and_equal_names(folder, blob_pair):
    (folder / "sub").mkdir()
    shutil.copy(folder / "c1.tif", folder / "sub" / "c1.tif")
    image = blob_pair(3, (48, 56), 4)[0]
    queries = [folder / "c1.tif", folder / "sub" / "c1.tif", image]
    table = many(folder, queries)
    assert table["file"].tolist() == [
        "c1_labels.tif",
        "c1_labels_2.tif",
        "query_labels.tif",
    ]
    assert table["image"].tolist() == ["c1.tif", "sub/c1.tif", "query"]
    assert many(folder, queries)["status"].tolist() == ["done before"] * 3


def test_files_of_one_name_say_their_folders(tmp_path):
    for name in ("a/x.tif", "b/deep/x.tif", "b/y.tif", "p/A01/f1.tif", "q/A01/f1.tif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = [i.name for i in items_of(str(tmp_path / "**" / "*.tif"))]
    assert sorted(names) == [
        "a/x.tif",
        "b/deep/x.tif",
        "p/A01/f1.tif",
        "q/A01/f1.tif",
        "y.tif",
    ]
    assert [i.name for i in items_of(str(tmp_path / "b" / "*.tif"))] == ["y.tif"]


@pytest.mark.skipif(sys.platform == "win32", reason="names that Windows refuses")
def test_bad_files_are_rows_and_the_rest_goes_on(folder, blob_pair):
    import zarr

    queries = folder / "in"
    queries.mkdir()
    good = blob_pair(1, (48, 56), 4)[0]

    def store(name):
        array = zarr.create_array(
            queries / name, shape=good.shape, chunks=(24, 28), dtype="u1"
        )
        array[:] = good
        return queries / name / "c" / "0" / "0"

    store("corrupt.zarr").write_bytes(b"rubbish")
    store("gap.zarr").unlink()
    (queries / "empty.tif").touch()
    (queries / "notes.png").write_text("no picture")
    (queries / "self.tif").symlink_to(queries / "self.tif")
    (queries / "._c1.tif").write_bytes(b"resource fork")
    (queries / "readme.txt").write_text("text")
    tifffile.imwrite(queries / "nan.tif", np.full((48, 56), np.nan, np.float32))
    tifffile.imwrite(queries / "complex.tif", good.astype(np.complex64))
    tifffile.imwrite(queries / "bool.tif", good > 90)
    tifffile.imwrite(queries / "u16.tif", good.astype(np.uint16) * 100)
    tifffile.imwrite(queries / "stack.tif", np.stack([good] * 6), metadata=None)
    tifffile.imwrite(queries / "細胞 №1 [ü].tif", good)
    tifffile.imwrite(queries / f"{'x' * 250}.tif", good)
    tifffile.imwrite(queries / os.fsdecode(b"odd\xff.tif"), good)
    table = many(folder, queries).set_index("image")
    status = table["status"].to_dict()
    bad = {"corrupt.zarr", "empty.tif", "notes.png", "self.tif", "nan.tif"}
    bad |= {"complex.tif", "bool.tif"}
    assert {name for name, s in status.items() if s == "failed"} == bad
    assert {n for n, s in status.items() if s == "done"} == {
        "gap.zarr",
        "u16.tif",
        "stack.tif",
        "細胞 №1 [ü].tif",
        f"{'x' * 250}.tif",
        "odd\\xff.tif",
    }
    assert all(len(table["message"][name]) > 20 for name in bad)
    assert "1 of 4 chunks" in table["warnings"]["gap.zarr"]
    assert "NaN" in table["message"]["nan.tif"]
    long = table["file"][f"{'x' * 250}.tif"]
    assert len(long) <= 255
    assert (folder / "out" / long).is_file()
    cards = {c["image"]: c for c in page_rows(folder / "out" / "report.html")}
    assert (folder / "out" / "細胞 №1 [ü]_labels.tif").is_file()
    assert cards["empty.tif"]["rank"] == -1
    again = many(folder, queries)
    assert set(again["status"]) == {"done before", "failed"}


def test_patterns_go_into_folders_once(tmp_path):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    for path in (tmp_path / "1.tif", tmp_path / "a" / "2.tif", deep / "3.tif"):
        path.touch()
    (tmp_path / "a" / "s.zarr" / "c").mkdir(parents=True)
    (tmp_path / "a" / "s.zarr" / "c" / "4.tif").touch()
    (deep / "loop").symlink_to(tmp_path / "a")
    (deep / "loop2").symlink_to(tmp_path)
    found = items_of(str(tmp_path / "**" / "*.tif"))
    assert [i.name for i in found] == ["1.tif", "2.tif", "3.tif"]
    found = items_of(str(tmp_path / "a" / "**" / "[23]*"))
    assert [i.name for i in found] == ["2.tif", "3.tif"]
    with pytest.raises(nf.DataError, match="names no image"):
        items_of(str(tmp_path / "**" / "*.png"))
    with pytest.raises(nf.DataError, match="names no image"):
        items_of("y" * 5000)


@pytest.mark.parametrize(
    ("name", "well", "place"),
    [
        ("plate_A01_s1.tif", "A01", "1"),
        ("x-H12-f003.tif", "H12", "003"),
        ("P24.tif", "P24", ""),
        ("AF48_site2.tif", "AF48", "2"),
        ("c1.tif", "", ""),
        ("DNA01.tif", "", ""),
        ("scan_Z01_s1.tif", "", ""),
        ("A00_s1.tif", "", ""),
    ],
)
def test_wells_in_names(tmp_path, name, well, place):
    (tmp_path / name).touch()
    item = items_of(tmp_path / name)[0]
    assert (item.well, item.field) == (well, place)


def test_a_plate_of_folders(folder):
    plate = folder / "plate"
    for well in ("A01", "B2"):
        (plate / well).mkdir(parents=True)
        for number in (1, 2):
            shutil.copy(folder / "c1.tif", plate / well / f"field{number}.tif")
    table = many(folder, plate)
    assert table["well"].tolist() == ["A01", "A01", "B2", "B2"]
    assert table["field"].astype(str).tolist() == ["1", "2", "1", "2"]
    assert table["file"].is_unique
    assert list(table.columns[:3]) == ["image", "well", "field"]


@pytest.mark.parametrize("version", [2, 3])
def test_an_ome_zarr_plate(folder, version):
    import zarr

    image = tifffile.imread(folder / "c1.tif")
    path = folder / "p.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=version)
    plate = {"plate": {"wells": [{"path": "A/1"}, {"path": "C/12"}]}}
    axes = [{"name": a} for a in "tczyx"]
    steps = [{"type": "scale", "scale": [1, 1, 2, 0.5, 0.5]}]
    scales = {
        "multiscales": [
            {
                "axes": axes,
                "datasets": [{"path": "0", "coordinateTransformations": steps}],
            }
        ]
    }

    def describe(node, facts):
        node.attrs.update(facts if version == 2 else {"ome": facts})

    describe(root, plate)
    for well in ("A/1", "C/12"):
        group = root.create_group(well)
        describe(group, {"well": {"images": [{"path": "0"}]}})
        field = group.create_group("0")
        describe(field, scales)
        array = field.create_array("0", shape=(1, 1, 1, *image.shape), dtype="u1")
        array[0, 0, 0] = image
    table = many(folder, path)
    assert table["status"].tolist() == ["done", "done"], table["message"].tolist()
    assert table["well"].tolist() == ["A01", "C12"]
    assert table["file"].tolist() == ["p_A01_0_labels.tif", "p_C12_0_labels.tif"]
    # Volumes: a voxel of 2 x 0.5 x 0.5 is half a unit.
    size = table["size class 1"].astype(float)
    assert (size == table["area class 1"] / 2).all()
    assert many(folder, path)["status"].tolist() == ["done before"] * 2
    shutil.rmtree(path / "C")
    with pytest.raises(nf.DataError, match="not there"):
        many(folder, path)


def test_jobs_of_a_table(folder):
    (folder / "jobs.csv").write_text(
        "image,support,scale,axes,out,well\n"
        'c1.tif,c0.tif|masks/c0.tif; c2.tif|masks/c2.tif,"0.5,0.5",yx,first.tif,B07\n'
        "c3.tif,,,,,\n"
        ",,,,,\n"
        "missing.tif,,,,,\n"
    )
    table = many(folder, (), jobs=folder / "jobs.csv")
    assert table["status"].tolist() == ["done", "done", "failed"]
    assert table["file"].tolist()[:2] == ["first.tif", "c3_labels.tif"]
    assert table["message"][2].startswith("missing.tif can't be read")
    assert table["well"][0] == "B07"
    records = json.loads((folder / "out" / "provenance.json").read_text())
    assert len(records["first.tif"]["inputs"]["supports"]) == 2
    assert records["first.tif"]["inputs"]["query"]["scale"] == [0.5, 0.5]
    assert len(records["c3_labels.tif"]["inputs"]["supports"]) == 1


def test_jobs_as_json_with_their_own_supports(folder):
    content = {"jobs": [{"image": "c1.tif", "support": [["c0.tif", "masks/c0.tif"]]}]}
    (folder / "jobs.json").write_text(json.dumps(content))
    table = many(folder, (), jobs=folder / "jobs.json", support=None)
    assert table["status"].tolist() == ["done"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("j.csv", "imgae\na.tif\n", ["'imgae'", "did you mean 'image'"]),
        ("j.csv", "scale\n1\n", ["no column 'image'"]),
        (
            "j.csv",
            'image,scale\na.tif,1\n,2\nb.tif,"x,1"\nc.tif,1,2,3\n',
            ["row 2: image is empty", "row 3: scale=x,1", "row 4: it has more cells"],
        ),
        (
            "j.csv",
            "image,support,out\na.tif,b.tif,\nb.tif,,../x.tif\nc.tif,,q\nd.tif,,Q\n",
            ["row 1: support=b.tif", "row 2: out=../x.tif", "row 4: out=Q is that of"],
        ),
        ("j.csv", "", ["no column 'image'"]),
        ("j.csv", "image\n", ["no jobs"]),
        ("j.csv", b"image\n\xff\xfe\n", ["UTF-8"]),
        ("j.json", "{", ["JSON"]),
        ("j.json", '{"jobs": 3}', ["list of objects"]),
        ("j.json", '[{"image": {"a": 1}}]', ["row 1: image is an object"]),
        ("j.json", "[]", ["no column 'image'"]),
    ],
)
def test_wrong_job_files_are_refused_with_row_numbers(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(nf.DataError) as caught:
        read_jobs(path)
    for word in words:
        assert word in str(caught.value)


def test_nothing_starts_that_can_not_end(folder):
    (folder / "file").touch()
    with pytest.raises(nf.StorageError, match="Choose another folder"):
        many(folder, folder, out="file/below")
    with pytest.raises(nf.DataError, match="no format 'bmp'"):
        many(folder, folder, format="bmp")
    with pytest.raises(nf.DataError, match="No image was named"):
        many(folder, ())
    with pytest.raises(TypeError, match="'threshold'"):
        many(folder, folder, treshold=0.4)
    with pytest.raises(nf.ModelError):
        many(folder, folder, method="pixle")
    with pytest.raises(nf.SupportError):
        many(folder, folder, support=None)
    assert not (folder / "out").exists() or not list((folder / "out").glob("*_labels*"))


def test_one_batch_at_a_time(folder):
    holder = Records(folder / "out")
    with pytest.raises(nf.StorageError, match="Another batch"):
        many(folder, folder)
    holder.close()
    assert many(folder, folder / "c1.tif")["status"][0] == "done"


def test_a_torn_journal_costs_its_last_line(tmp_path):
    records = Records(tmp_path)
    records.add("a", {"x": 1})
    records.add("b", {"x": 2})
    # The process ends here; the last line is half on the disk.
    records._file.close()
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-7] + b"\xff\xfe")
    (tmp_path / ".writing-abc").mkdir()
    again = Records(tmp_path)
    assert again.all == {"a": {"x": 1}}
    assert not (tmp_path / ".writing-abc").exists()
    again.add("c", {"x": 3})
    again._file.close()
    last = Records(tmp_path)
    assert last.all == {"a": {"x": 1}, "c": {"x": 3}}
    last.close()
    assert json.loads((tmp_path / "provenance.json").read_text()) == last.all
    assert not journal.exists()


def test_records_do_not_grow_with_what_was_done(tmp_path):
    """A line costs the same when there are thousands: nothing is written anew."""
    records = Records(tmp_path)
    for n in range(2000):
        records.add(f"{n}.tif", {"seconds": n})
    size = (tmp_path / "journal.jsonl").stat().st_size
    assert size < 2000 * 80
    assert not (tmp_path / "provenance.json").exists()
    records.close()
    assert len(json.loads((tmp_path / "provenance.json").read_text())) == 2000


PROGRAM = """
import sys, pathlib, napari_fewshot as nf
folder = pathlib.Path(sys.argv[1])
support = nf.Support(folder / "c0.tif", folder / "masks" / "c0.tif")
print("ready", flush=True)
table = nf.segment_many(
    folder / "many", support, out=folder / sys.argv[2], method="pixel", trees=5,
    leave_one_out=False, measure=True, on_progress=lambda p: print(p.done, flush=True),
)
print(table["status"].tolist(), flush=True)
"""


def start(folder, out):
    words = [sys.executable, "-c", PROGRAM, str(folder), out]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def snapshot(out):
    """Return what a folder holds, but for what tells of time."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.suffix in (".tif", ".jpg") or "measurements" in name:
            found[name] = path.read_bytes()
        elif path.is_file():
            found[name] = b""
    records = json.loads((out / "provenance.json").read_text())
    for record in records.values():
        record.pop("seconds")
        record["report"].pop("seconds")
    return {**found, "records": records}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 here")
def test_killed_at_any_moment_it_goes_on(folder, blob_pair):
    (folder / "many").mkdir()
    for n in range(9):
        image = blob_pair(20 + n, (48, 56), 4)[0]
        tifffile.imwrite(folder / "many" / f"m{n}.tif", image)
    many(folder, folder / "many", out="calm", measure=True)
    wanted = snapshot(folder / "calm")
    rng = random.Random(4)
    for _ in range(2):
        process = start(folder, "killed")
        assert process.stdout.readline().strip() == "ready"
        first = int(process.stdout.readline())
        stop = first + rng.randrange(1, 4)
        for line in process.stdout:
            if int(line) == stop:
                break
        time.sleep(rng.random() * 0.05)
        process.kill()
        process.communicate()
    kept = (folder / "killed" / "journal.jsonl").read_text().count("\n")
    last = many(folder, folder / "many", out="killed", measure=True)
    assert (last["status"] == "done before").sum() >= kept > 0
    assert snapshot(folder / "killed") == wanted


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small disk")
def test_a_full_disk_stops_the_batch_and_keeps_what_is_done(folder):
    small = folder / "small"
    small.mkdir()
    big = folder / "big"
    big.mkdir()
    rng = np.random.default_rng(0)
    for n in range(5):
        noise = rng.integers(0, 255, (300, 300)).astype("u1")
        tifffile.imwrite(big / f"b{n}.tif", noise)
    program = PROGRAM.replace('folder / "many"', 'folder / "big"')
    program = program.replace("measure=True", "fill_holes=False")
    program = program.replace("table = ", "try:\n    table = ")
    program = program.replace("print(table", "    print(table")
    program += "except nf.StorageError as error:\n    print('FULL', error)\n"
    (folder / "p.py").write_text(program)
    call = f"{sys.executable} {folder / 'p.py'} {folder} small/out"
    script = (
        f"mount -t tmpfs -o size=140k none {small} || exit 7; {call}; "
        f"ls -A {small}/out; mount -o remount,size=9m {small} && {call}; "
        f"ls -A {small}/out"
    )
    words = ["unshare", "-rm", "sh", "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode == 7 or "unshare" in done.stderr:
        pytest.skip("no small disk can be mounted here")
    _, _, second = done.stdout.partition("FULL")
    assert "No space left" in second, done.stdout + done.stderr
    assert "what was finished is kept" in second
    assert ".writing-" not in second
    status = next(line for line in second.splitlines() if line.startswith("["))
    assert 0 < status.count("'done before'") < 5
    assert status.count("'done'") == 5 - status.count("'done before'")
    assert "journal" not in second.split(status)[1]


def test_several_at_once_give_the_same(folder):
    alone = many(folder, folder, measure=True)
    both = many(folder, folder, out="both", workers=2, measure=True)
    columns = [c for c in alone if c != "seconds"]
    assert both[columns].equals(alone[columns])
    for name in alone["file"]:
        here, there = folder / "out" / name, folder / "both" / name
        assert here.read_bytes() == there.read_bytes()
    with pytest.raises(nf.DataError, match="workers=0"):
        many(folder, folder, workers=0)


def test_measurements_of_all(folder):
    table = many(folder, folder, measure=True, scale=(0.5, 0.5), format="png")
    out = folder / "out"
    with (out / "measurements.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == table["objects"].sum() > 4
    assert {r["image"] for r in rows} == set(table["image"])
    area = sum(float(r["area"]) for r in rows if r["image"] == "c2.tif")
    assert area == pytest.approx(float(table["size class 1"][2]))
    assert (out / "c2_measurements.csv").is_file()
    (out / "c2_measurements.csv").unlink()
    again = many(folder, folder, measure=True, scale=(0.5, 0.5), format="png")
    assert again["status"].tolist() == ["done before"] * 2 + ["done", "done before"]


@pytest.mark.parametrize(
    ("kind", "supports", "word"),
    [
        ("uncalibrated", [], "uncalibrated spot"),
        ("uncalibrated", [{"name": "a"}], "expected dice spot"),
        ("predicted-iou", [], "expected dice spot"),
        ("leave-one-out", [{"name": "a"}], "expected dice spot"),
    ],
)
def test_what_only_a_phrase_says_is_no_expected_dice(kind, supports, word):
    from napari_fewshot.data import Image, Prediction

    labels = np.zeros((20, 20), np.int32)
    labels[:4] = 2
    found = Prediction(
        labels,
        classes={2: "spot"},
        scores={2: 0.9},
        present={2: True},
        plane_novelty=np.array([1.4], np.float32),
        provenance={
            "seconds": {"fit": 1.0, "predict": 0.5},
            "score_kind": kind,
            "inputs": {"supports": supports},
            "notes": ["A note."],
        },
    )
    image = Image.from_array(np.zeros((20, 20)), scale=(0.5, 0.1))
    row = row_of("a.tif", found, image)
    assert {k for k in row if k.endswith("spot")} == {
        word,
        "area spot",
        "size spot",
        "present spot",
    }
    assert (row["area spot"], row["size spot"], row["seconds"]) == (80, "4", "1.50")
    assert row["warnings"] == "A note. Unlike the supports: masks are guesses."


def test_a_page_of_ten_thousand_rows_with_hostile_names(tmp_path):
    evil = "</script><img src=x onerror=alert(1)>.tif"
    rows = [
        {
            "image": f"{n}.tif",
            "status": "done",
            "file": f"{n}_labels.tif",
            "seconds": "1.00",
            "expected dice nucleus": f"{n / 10000:.3f}",
            "area nucleus": n,
        }
        for n in range(10_000)
    ]
    rows.append({"image": evil, "status": "failed", "message": "<b>no</b> & why"})
    rows.append({"image": "t", "status": "done", "uncalibrated spot": "0.900"})
    write_page(tmp_path / "report.html", rows)
    text = (tmp_path / "report.html").read_text()
    assert text.count("</script>") == 2
    assert "<img src=x" not in text
    assert "http" not in text.replace("http-equiv", "")
    cards = page_rows(tmp_path / "report.html")
    assert len(cards) == 10_002
    assert cards[-2]["image"] == evil
    assert cards[-1]["cells"] == [["spot: score, uncalibrated", "0.900", ""]]
    worst = sorted(cards, key=lambda c: c["rank"])
    assert [c["image"] for c in worst[:2]] == [evil, "0.tif"]
    assert len(text) < 6_000_000


def test_numbers_of_objects_that_a_file_can_not_hold_are_told(folder):
    query = folder / "c1.tif"
    told = many(folder, query, instances="components")["warnings"][0]
    assert "not kept in .tif" in told
    kept = many(folder, query, instances="components", format="geojson")
    assert "not kept" not in str(kept["warnings"][0])
