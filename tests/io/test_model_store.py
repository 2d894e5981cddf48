"""The folder of models: downloads from a real server, imports, bundles, bad files."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

import napari_fewshot as nf
from napari_fewshot.errors import Cancelled, ModelError, StorageError, WeightsError
from napari_fewshot.io import _model_store as store
from napari_fewshot.io import (
    bundle_models,
    download_model,
    import_bundle,
    import_weights,
    installed_model,
    is_bundle,
    remove_model,
    save_settings,
    verify_model,
)
from napari_fewshot.models import (
    Settings,
    get_model_spec,
    installed_models,
    model_specs,
    read_settings,
)
from napari_fewshot.models._places import model_folder, models_folder, weights_of
from napari_fewshot.models._settings import preferred
from napari_fewshot.models.sam._unet import ClickUnet

UNET = "scribbleprompt/unet"
CONTENT = bytes(range(256)) * 12_000


class Handler(BaseHTTPRequestHandler):
    """A file with ranges; its server may cut connections and change the file."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.asked.append(self.headers.get("Range"))
        if server.status != 200:
            self.send_error(server.status)
            return
        body, tag = server.content, f'"{hashlib.md5(server.content).hexdigest()}"'
        span = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        same = self.headers.get("If-Range") == tag
        begin = int(span[1]) if span and same and server.ranges else 0
        self.send_response(206 if begin else 200)
        if begin:
            line = f"bytes {begin}-{len(body) - 1}/{len(body)}"
            self.send_header("Content-Range", line)
        self.send_header("ETag", tag)
        self.send_header("Content-Type", server.kind)
        self.send_header("Content-Length", str(len(body) - begin))
        self.end_headers()
        end = len(body) if server.cuts <= 0 else begin + len(body) // 3
        server.cuts -= 1
        self.wfile.write(body[begin:end])
        self.close_connection = True

    def log_message(self, *_):
        """Be silent."""


@pytest.fixture
def server():
    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.content, found.cuts, found.ranges, found.status = CONTENT, 0, True, 200
    found.kind, found.asked = "application/octet-stream", []
    thread = threading.Thread(target=found.serve_forever, args=(0.01,))
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


@pytest.fixture
def spec(server):
    url = f"http://127.0.0.1:{server.server_port}/mobile_sam.pt"
    return replace(get_model_spec("mobilesam/vit_t"), download_url=url)


@pytest.fixture
def weights(tmp_path):
    """ScribblePrompt's U-Net, narrow, with random weights."""
    return write_unet(tmp_path / "ScribblePrompt_unet_v1_nf192_res128.pt")


def write_unet(path, seed=0):
    torch.manual_seed(seed)
    torch.save(ClickUnet((4, 4, 4, 4)).state_dict(), path)
    return path


def leftovers():
    return [p.name for p in models_folder().glob(".*") if p.name != ".parts"]


def test_the_catalogue_is_complete():
    specs = [s for s in model_specs() if s.needs_download]
    assert len(specs) == 64
    assert len({s.name for s in specs}) == 64
    for one in specs:
        assert one.url.startswith("https://"), one.name
        assert all((one.licence, one.trained_on, one.citation, one.benchmark_data))
        assert not one.download_url or one.file, one.name
        assert not one.base or get_model_spec(one.base).needs_download


def test_every_model_of_the_sam_family_has_a_preset():
    from napari_fewshot.models._catalogue import SAM_FAMILY
    from napari_fewshot.models.sam._presets import FAMILIES

    assert {s.name for s in SAM_FAMILY} == set(FAMILIES)


def test_download_installs_and_records_the_agreement(spec):
    steps = []
    assert spec.name not in installed_models()
    with pytest.raises(WeightsError, match="has to be agreed"):
        download_model(spec, agreed=False)
    record = download_model(spec, agreed=True, progress=lambda *s: steps.append(s))
    assert weights_of(spec.name).read_bytes() == CONTENT
    assert spec.name in installed_models()
    table = nf.list_models().set_index("name")
    assert list(table.loc[["filters", spec.name, UNET], "installed"]) == [1, 1, 0]
    facts = record.files["mobile_sam.pt"]
    assert facts.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert facts.size == len(CONTENT)
    beside = json.loads((model_folder(spec.name) / "installed.json").read_text())
    assert beside["licence"] == "Apache-2.0"
    assert beside["url"] == spec.download_url
    assert beside["agreed"] == record.agreed != ""
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert installed_model(spec.name) == record
    assert not leftovers()


def test_a_cut_connection_goes_on_where_it_stopped(spec, server):
    server.cuts = 2
    download_model(spec, agreed=True)
    third = len(CONTENT) // 3
    assert server.asked == [None, f"bytes={third}-", f"bytes={2 * third}-"]
    assert weights_of(spec.name).read_bytes() == CONTENT


def test_a_cancelled_download_is_resumed_the_next_time(spec, server):
    def stop(done, total):
        if done > total // 2:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        download_model(spec, agreed=True, progress=stop)
    assert installed_model(spec.name) is None
    download_model(spec, agreed=True)
    assert server.asked[0] is None
    assert server.asked[1].startswith("bytes=")
    assert weights_of(spec.name).read_bytes() == CONTENT


@pytest.mark.parametrize("change", ["file", "ranges"])
def test_a_part_that_can_not_be_continued_is_started_again(spec, server, change):
    def stop(*_):
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        download_model(spec, agreed=True, progress=stop)
    server.ranges = change != "ranges"
    if change == "file":
        server.content = CONTENT[::-1]
    download_model(spec, agreed=True)
    assert weights_of(spec.name).read_bytes() == server.content


@pytest.mark.parametrize("kind", ["published", "first"])
def test_another_file_is_refused_and_the_old_one_stays(spec, server, kind):
    download_model(spec, agreed=True)
    server.content = CONTENT[:-1] + b"!"
    if kind == "published":
        spec = replace(spec, sha256=hashlib.sha256(CONTENT).hexdigest())
    with pytest.raises(WeightsError, match=f"is not the {kind} one"):
        download_model(spec, agreed=True)
    assert weights_of(spec.name).read_bytes() == CONTENT
    assert not list((models_folder() / ".parts").iterdir())
    assert not leftovers()


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ({"status": 404}, "answered 404"),
        ({"kind": "text/html"}, "web page"),
        ({"content": b"", "cuts": 9}, "is not the published"),
    ],
)
def test_answers_that_are_no_file(spec, server, trouble, message):
    for key, value in trouble.items():
        setattr(server, key, value)
    with pytest.raises(WeightsError, match=message):
        download_model(replace(spec, sha256="0" * 64), agreed=True)
    assert installed_model(spec.name) is None


def test_no_network(spec, server):
    server.shutdown()
    server.server_close()
    with pytest.raises(
        WeightsError, match=r"could not be downloaded .*import the file"
    ):
        download_model(spec, agreed=True)


def test_a_disk_that_is_too_small(spec, monkeypatch):
    usage = lambda _: type("Usage", (), {"free": 1000})()  # noqa: E731
    monkeypatch.setattr(store.shutil, "disk_usage", usage)
    with pytest.raises(StorageError, match="are needed"):
        download_model(spec, agreed=True)


def test_models_without_an_address_name_the_page():
    spec = get_model_spec("medsam/vit_b")
    with pytest.raises(WeightsError, match=r"bowang-lab.*models import FILE --model"):
        download_model(spec, agreed=True)
    with pytest.raises(ModelError, match="comes with the package"):
        download_model(get_model_spec("filters"), agreed=True)


def test_import_recognises_verifies_and_removes(weights):
    with pytest.raises(WeightsError, match=r"not installed.*Apache-2.0"):
        nf.load_model(UNET)
    record = import_weights(weights)
    assert (record.name, record.source, record.agreed) == (UNET, "import", "")
    model = nf.load_model(UNET)
    assert model.spec.name == UNET
    assert model.sha256 == record.files[weights.name].sha256
    assert nf.load_model("auto", checkpoint=weights).spec.name == UNET
    assert verify_model(UNET)
    weights_of(UNET).write_bytes(b"something else")
    with pytest.raises(WeightsError, match="is damaged"):
        verify_model(UNET)
    remove_model(UNET)
    assert UNET not in installed_models()
    with pytest.raises(WeightsError, match="nothing to remove"):
        remove_model(UNET)
    with pytest.raises(ModelError, match="comes with the package"):
        remove_model("filters")
    assert not leftovers()


def test_import_refuses_what_is_of_another_model(weights, tmp_path):
    with pytest.raises(WeightsError, match="not of sam/vit_b"):
        import_weights(weights, "sam/vit_b")
    with pytest.raises(WeightsError, match="does not exist"):
        import_weights(tmp_path / "missing.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(WeightsError, match=r"text\.pth"):
        import_weights(tmp_path / "text.pth", UNET)
    assert installed_models() == ("incontext/small", "filters")


def test_a_folder_is_copied_and_a_model_needs_its_base(tmp_path):
    """Without its base nothing can be loaded yet, so any files will do here."""
    folder = tmp_path / "samed"
    folder.mkdir()
    for name in ("config.json", "a.safetensors", "code.py"):
        (folder / name).write_text(name)
    record = import_weights(folder, "samed/vit_b")
    assert set(record.files) == {"config.json", "a.safetensors"}
    assert weights_of("samed/vit_b") == model_folder("samed/vit_b")
    assert "samed/vit_b" not in installed_models()
    with pytest.raises(WeightsError, match="builds on sam/vit_b"):
        nf.load_model("samed/vit_b")


def test_a_bundle_carries_models_to_another_machine(
    weights, tmp_path, monkeypatch, spec
):
    import_weights(weights)
    download_model(spec, agreed=True)
    bundle = tmp_path / "models.zip"
    assert {r.name for r in bundle_models(bundle)} == {UNET, spec.name}
    assert is_bundle(bundle)
    assert not is_bundle(weights)
    monkeypatch.setenv("NAPARI_FEWSHOT_HOME", str(tmp_path / "other"))
    with pytest.raises(WeightsError, match="nothing to bundle"):
        bundle_models(tmp_path / "none.zip")
    assert not (tmp_path / "none.zip").exists()
    import_bundle(bundle)
    assert {UNET, spec.name} <= set(installed_models())
    assert weights_of(spec.name).read_bytes() == CONTENT
    assert installed_model(spec.name).source == "bundle"
    assert nf.load_model(UNET).spec.name == UNET


def rewrite(bundle, out, change):
    """Copy a bundle with its list of models and members changed."""
    with zipfile.ZipFile(bundle) as old:
        members = {n: old.read(n) for n in old.namelist()}
    content = json.loads(members.pop("napari-fewshot-models.json"))
    content, members = change(content, members)
    with zipfile.ZipFile(out, "w") as new:
        if content is not None:
            new.writestr("napari-fewshot-models.json", json.dumps(content))
        for name, data in members.items():
            new.writestr(name, data)


def climb(content, members):
    files = content["models"][0]["files"]
    (name,) = files
    files["../../evil.pt"] = files.pop(name)
    return content, {f"models/{UNET.replace('/', '--')}/../../evil.pt": b"evil"}


def swap(content, members):
    return content, {n: b"x" * len(d) for n, d in members.items()}


def rename(content, members):
    content["models"][0]["name"] = "evil/model"
    return content, members


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(climb, "list of models can't be used", id="traversal"),
        pytest.param(swap, "is not the file that is listed", id="content"),
        pytest.param(rename, "no model 'evil/model'", id="unknown"),
        pytest.param(lambda c, m: (None, m), "is no bundle", id="no-manifest"),
        pytest.param(lambda c, m: (c, {}), "is missing", id="no-member"),
        pytest.param(
            lambda c, m: (c, {n: d + b"x" for n, d in m.items()}), "size", id="size"
        ),
        pytest.param(lambda c, m: (["x" * 2_000_000], m), "2 MB large", id="oversize"),
        pytest.param(lambda c, m: ({"models": []}, m), "lists no models", id="empty"),
    ],
)
def test_hostile_bundles_install_nothing(weights, tmp_path, change, message):
    import_weights(weights)
    bundle, bad = tmp_path / "models.zip", tmp_path / "bad.zip"
    bundle_models(bundle)
    remove_model(UNET)
    rewrite(bundle, bad, change)
    with pytest.raises((WeightsError, ModelError), match=message):
        import_bundle(bad)
    assert installed_models() == ("incontext/small", "filters")
    assert not leftovers()
    assert not list(tmp_path.parent.rglob("evil.pt"))


def test_a_truncated_bundle(weights, tmp_path):
    import_weights(weights)
    bundle = tmp_path / "models.zip"
    bundle_models(bundle)
    bundle.write_bytes(bundle.read_bytes()[:-40])
    with pytest.raises(WeightsError, match=r"is damaged|not whole"):
        import_bundle(bundle)


def test_settings_stand_for_auto_only(home):
    assert read_settings() == Settings()
    save_settings(Settings("cpu", "bf16"))
    assert preferred("auto", "auto") == ("cpu", "bf16")
    assert preferred("cuda:1", "fp32") == ("cuda:1", "fp32")
    # fp16 can't be had on a processor: passed over, not an error.
    save_settings(Settings("cpu", "fp16"))
    assert preferred("auto", "auto") == ("cpu", "auto")
    (home / "data" / "settings.json").write_text('{"device": "abacus"}')
    assert read_settings() == Settings()


def test_a_failed_installation_keeps_the_old_one(weights, tmp_path, monkeypatch):
    first = import_weights(weights)
    other = write_unet(tmp_path / "other.pt", seed=1)
    replace_, calls = store.os.replace, []

    def fail(source, target):
        calls.append(target)
        # The third is the new folder to its place.
        if len(calls) == 3:
            raise PermissionError(13, "in use")
        replace_(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(store.os, "replace", fail)
        with pytest.raises(StorageError, match="has not changed"):
            import_weights(other, UNET)
    assert installed_model(UNET) == first
    assert weights_of(UNET).read_bytes() == weights.read_bytes()
    assert not leftovers()
