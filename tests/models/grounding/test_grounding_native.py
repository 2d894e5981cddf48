"""Meta's names of SAM 3's detector: there and back."""

import re
import shutil

import numpy as np
import pytest
import torch

import napari_fewshot as nf

# Names of transformers and of Meta's files, written down apart from the loader's table.
METAS = (
    ("vision_encoder.backbone.embeddings.position_embeddings", "TRUNK.pos_embed"),
    (
        "vision_encoder.backbone.embeddings.patch_embeddings.projection",
        "TRUNK.patch_embed.proj",
    ),
    ("vision_encoder.backbone.layer_norm.", "TRUNK.ln_pre."),
    ("vision_encoder.backbone.layers.", "TRUNK.blocks."),
    ("vision_encoder.neck.fpn_layers.", "backbone.vision_backbone.convs."),
    ("TRUNK", "backbone.vision_backbone.trunk"),
    (".proj1.", ".conv_1x1."),
    (".proj2.", ".conv_3x3."),
    ("text_encoder.text_model.embeddings.token_embedding", "WORDS.token_embedding"),
    (
        "text_encoder.text_model.embeddings.position_embedding.weight",
        "WORDS.positional_embedding",
    ),
    ("text_encoder.text_model.final_layer_norm", "WORDS.ln_final"),
    ("text_encoder.text_model.encoder.layers", "WORDS.transformer.resblocks"),
    ("text_encoder.text_projection.weight", "WORDS.text_projection"),
    ("WORDS", "backbone.language_backbone.encoder"),
    ("geometry_encoder.layers", "geometry_encoder.encode"),
    ("geometry_encoder.vision_layer_norm", "geometry_encoder.img_pre_norm"),
    ("geometry_encoder.prompt_layer_norm", "geometry_encoder.norm"),
    ("geometry_encoder.output_layer_norm", "geometry_encoder.encode_norm"),
    ("vision_cross_attn_layer_norm", "norm1"),
    ("text_cross_attn_layer_norm", "catext_norm"),
    ("self_attn_layer_norm", "norm2"),
    ("mlp_layer_norm", "norm3"),
    ("text_cross_attn", "ca_text"),
    ("vision_cross_attn", "cross_attn"),
    ("presence_head", "presence_token_head"),
    ("presence_layer_norm", "presence_token_out_norm"),
    ("detr_decoder.output_layer_norm", "detr_decoder.norm"),
    ("box_head", "bbox_embed"),
    ("box_rpb_embed", "boxRPB_embed"),
    ("detr_encoder", "transformer.encoder"),
    ("detr_decoder", "transformer.decoder"),
    ("dot_product_scoring.text_mlp_out_norm", "dot_prod_scoring.prompt_mlp.out_norm"),
    ("dot_product_scoring.text_mlp", "dot_prod_scoring.prompt_mlp"),
    ("dot_product_scoring.text_proj", "dot_prod_scoring.prompt_proj"),
    ("dot_product_scoring.query_proj", "dot_prod_scoring.hs_proj"),
    ("mask_decoder.mask_embedder", "segmentation_head.mask_predictor.mask_embed"),
    ("mask_decoder.instance_projection", "segmentation_head.instance_seg_head"),
    ("mask_decoder.semantic_projection", "segmentation_head.semantic_seg_head"),
    ("mask_decoder.prompt_cross_attn_norm", "segmentation_head.cross_attn_norm"),
    ("mask_decoder.prompt_cross_attn", "segmentation_head.cross_attend_prompt"),
    ("mask_decoder", "segmentation_head"),
)


def meta_name(key):
    """Return what a tensor of the detector is called in Meta's files."""
    trunk = key.startswith("vision_encoder.backbone.layers")
    words = key.startswith("text_encoder.text_model.encoder")
    if key.startswith("text_projection"):
        return key.replace("text_projection", "backbone.language_backbone.resizer")
    if key.startswith("vision_encoder.neck"):
        double = ".fpn_layers.0." in key
        key = key.replace(
            ".scale_layers.0.", ".dconv_2x2_0." if double else ".dconv_2x2."
        )
        key = key.replace(".scale_layers.2.", ".dconv_2x2_1.")
    for ours, theirs in METAS:
        key = key.replace(ours, theirs)
    if trunk:
        key = key.replace(".attention.o_proj.", ".attn.proj.")
        return re.sub(
            r"\.layer_norm([12])", r".norm\1", key.replace("attention", "attn")
        )
    if words:
        key = re.sub(r"\.layer_norm([12])", r".ln_\1", key.replace("self_attn", "attn"))
        return key.replace(".fc1.", ".c_fc.").replace(".fc2.", ".c_proj.")
    if key.startswith(("geometry_encoder.encode", "transformer.encoder")):
        key = key.replace(".cross_attn.", ".cross_attn_image.")
    key = re.sub(r"\.mlp\.fc([12])\.", r".linear\1.", key)
    key = re.sub(r"\.layer_norm([123])\.", r".norm\1.", key)
    key = re.sub(r"\.layer([123])\.", lambda m: f".layers.{int(m[1]) - 1}.", key)
    return key.replace(".o_proj.", ".out_proj.")


def meta_state(network):
    """Return the tensors as Meta's code saves them: queries, keys and values in one."""
    state, fused = {}, {}
    for key, tensor in network.state_dict().items():
        part = re.search(r"\.([qkv])_proj\.(weight|bias)$", key)
        if part:
            fused.setdefault((key[: part.start()], part[2]), {})[part[1]] = tensor
            continue
        name = meta_name(key)
        state[name] = tensor.clone()
    for (stem, kind), parts in fused.items():
        name = meta_name(
            f"{stem}.o_proj.{kind}"
            if "text_encoder" not in stem
            else f"{stem}.out_proj.{kind}"
        )
        new = ".attn.qkv." if ".trunk." in name else ".in_proj_"
        old = ".attn.proj." if ".trunk." in name else ".out_proj."
        state[name.replace(old, new)] = torch.cat([parts[n] for n in "qkv"])
    words = "backbone.language_backbone.encoder.text_projection"
    state[words] = state[words].T.contiguous()
    table = "backbone.vision_backbone.trunk.pos_embed"
    extra = torch.randn(1, 1, state[table].shape[2])
    state[table] = torch.cat([extra, state[table]], 1)
    return state


@pytest.fixture(scope="session")
def native(sam3):
    return meta_state(sam3[0])


def test_the_names_are_metas(native):
    """Some names as they stand in the published code."""
    for name in (
        "backbone.vision_backbone.trunk.blocks.0.attn.qkv.weight",
        "backbone.vision_backbone.convs.0.dconv_2x2_1.bias",
        "backbone.language_backbone.encoder.transformer.resblocks.1.mlp.c_fc.weight",
        "backbone.language_backbone.encoder.transformer.resblocks.0.attn.in_proj_bias",
        "geometry_encoder.encode.1.cross_attn_image.in_proj_weight",
        "transformer.encoder.layers.0.linear1.weight",
        "transformer.decoder.layers.1.ca_text.out_proj.bias",
        "transformer.decoder.boxRPB_embed_x.layers.1.weight",
        "transformer.decoder.presence_token_head.layers.2.bias",
        "dot_prod_scoring.prompt_mlp.out_norm.weight",
        "segmentation_head.mask_predictor.mask_embed.layers.0.weight",
        "segmentation_head.cross_attend_prompt.in_proj_weight",
    ):
        assert name in native


@pytest.mark.parametrize("form", ["plain", "with the tracker"])
def test_there_and_back(native, sam3, concept, image, tmp_path, read, form):
    _, folder = sam3
    state = {
        **native,
        "transformer.decoder.instance_query_embed.weight": torch.zeros(2),
    }
    state["backbone.vision_backbone.trunk.blocks.0.attn.freqs_cis"] = torch.zeros(3)
    if form != "plain":
        state = {f"detector.{k}": v for k, v in state.items()}
        state["tracker.maskmem_tpos_enc"] = torch.zeros(3)
    file = tmp_path / "checkpoint_2D.pt"
    torch.save({"model": state, "epoch": 3, "optimizer": {"state": {}}}, file)
    model = read("medical-sam3/2d", (file, folder))
    assert model.notes == []
    mine = model.concepts(image, "a cell", [5, 5, 30, 30], threshold=0.01)
    theirs = concept.concepts(image, "a cell", [5, 5, 30, 30], threshold=0.01)
    np.testing.assert_allclose(mine.scores, theirs.scores, atol=1e-6)
    np.testing.assert_allclose(mine.region, theirs.region, atol=1e-6)
    assert (mine.masks == theirs.masks).all()


def test_what_lacks_is_named_and_what_is_too_much_is_told(
    native, sam3, tmp_path, read, caplog
):
    _, folder = sam3
    file = tmp_path / "checkpoint_2D.pt"
    less = {k: v for k, v in native.items() if "resblocks.1.ln_2" not in k}
    torch.save(less, file)
    with pytest.raises(nf.WeightsError, match=r"2 tensors are missing.*layer_norm2"):
        read("medical-sam3/2d", (file, folder))
    torch.save({**native, "an.unknown.head": torch.zeros(3)}, file)
    model = read("medical-sam3/2d", (file, folder))
    assert "1 tensors" in model.notes[0]
    assert "an.unknown.head" in model.notes[0]


def test_low_rank_changes_are_not_a_model(native, sam3, tmp_path, read):
    file = tmp_path / "lora.pt"
    torch.save({"x.lora_A": torch.zeros(3, 4), "x.lora_B": torch.zeros(4, 3)}, file)
    with pytest.raises(nf.WeightsError, match=r"LoRA.*Merge"):
        read("medsam3/v1", (file, sam3[1]))


def test_a_file_that_would_run_code(sam3, tmp_path, read):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    file = tmp_path / "trap.pt"
    torch.save({"model": Trap()}, file)
    with pytest.raises(nf.WeightsError, match="could run code"):
        read("medical-sam3/2d", (file, sam3[1]))
    assert not (tmp_path / "ran").exists()


def test_a_converted_folder_is_enough(sam3, concept, image, tmp_path, read):
    copy = tmp_path / "converted"
    shutil.copytree(sam3[1], copy)
    alone = read("medical-sam3/2d", copy)
    pair = read("medical-sam3/2d", (copy, sam3[1]))
    found = [m.concepts(image, "cell", threshold=0.1).scores for m in (alone, pair)]
    np.testing.assert_allclose(*found, atol=1e-6)
