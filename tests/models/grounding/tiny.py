"""Small networks with random weights, written to folders of the published layout."""

import json

import pytest
import torch

from napari_fewshot.models import ModelSpec
from napari_fewshot.models.grounding import load

transformers = pytest.importorskip("transformers")

START, END = "<|startoftext|>", "<|endoftext|>"
PICTURES = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 2,
    "rescale_factor": 1 / 255,
}


def letters():
    """Signs that stand for bytes in CLIP's vocabulary."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(others))]


def write_clip_words(folder, length):
    """Write vocab.json and merges.txt, as CLIP's folders hold them."""
    words = [*letters(), *(x + "</w>" for x in letters())]
    merges = ["c e", "ce l", "cel l</w>", "d o", "do t</w>"]
    words += [m.replace(" ", "") for m in merges] + [START, END]
    table = {word: number for number, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(table))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    told = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": length,
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": END,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    return table


def write_bert_words(folder):
    """Write vocab.txt; its special tokens have the numbers of BERT's."""
    words = ["[PAD]", *(f"[unused{i}]" for i in range(1, 100))]
    words += ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += [f"[unused{i}]" for i in range(len(words), 1012)] + ["."]
    words += [f"[unused{i}]" for i in range(1013, 1029)] + ["?"]
    words += ["cell", "dot", "a", "nucleus", "##s", "dark", "round"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    told = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": 512,
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "mask_token": "[MASK]",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    return words


def write_pictures(folder, **more):
    (folder / "preprocessor_config.json").write_text(json.dumps(PICTURES | more))


def randomise(network, seed=0, size=0.15):
    """Every parameter random, so that none can go unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            noise = torch.randn(tensor.shape, generator=generator)
            is_scale = name.endswith("weight") and tensor.ndim == 1
            tensor.copy_(1 + 0.1 * noise if is_scale else size * noise)
    return network.eval()


def save(network, folder):
    log = transformers.utils.logging
    log.disable_progress_bar()
    network.save_pretrained(folder)
    return folder


def clip_text(table, **more):
    return {
        "vocab_size": len(table),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "bos_token_id": table[START],
        "eos_token_id": table[END],
        "pad_token_id": table[END],
        **more,
    }


def sam3_parts():
    vit = transformers.Sam3ViTConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=112,
        window_size=4,
        global_attn_indexes=[1],
        pretrain_image_size=56,
    )
    part = {
        "hidden_size": 32,
        "num_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    vision = transformers.Sam3VisionConfig(
        backbone_config=vit,
        fpn_hidden_size=32,
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
    )
    return {
        "vision_config": vision,
        "geometry_encoder_config": part,
        "detr_encoder_config": part,
        "detr_decoder_config": part | {"num_queries": 12},
        "mask_decoder_config": {"hidden_size": 32, "num_attention_heads": 2},
    }


def write_sam3_rest(folder):
    table = write_clip_words(folder, 32)
    write_pictures(
        folder,
        size={"height": 112, "width": 112},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        image_processor_type="Sam3ImageProcessor",
        processor_class="Sam3Processor",
    )
    return table


def write_clipseg(folder):
    table = write_clip_words(folder, 24)
    size = {"height": 64, "width": 64}
    # As published: the old name of the class that prepares images.
    write_pictures(
        folder,
        size=size,
        feature_extractor_type="ViTImageProcessor",
        processor_class="CLIPSegProcessor",
    )
    vision = {
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 16,
    }
    config = transformers.CLIPSegConfig(
        text_config=clip_text(table, max_position_embeddings=24),
        vision_config=vision,
        projection_dim=12,
        extract_layers=[0, 1, 3],
        reduce_dim=8,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )
    network = transformers.CLIPSegForImageSegmentation(config)
    return save(randomise(network), folder)


def write_dino(folder):
    words = write_bert_words(folder)
    write_pictures(
        folder,
        size={"shortest_edge": 64, "longest_edge": 96},
        do_pad=True,
        format="coco_detection",
        image_processor_type="GroundingDinoImageProcessor",
        processor_class="GroundingDinoProcessor",
    )
    swin = transformers.SwinConfig(
        image_size=64,
        window_size=4,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        out_features=["stage2", "stage3", "stage4"],
    )
    bert = {
        "model_type": "bert",
        "vocab_size": len(words),
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 64,
    }
    config = transformers.GroundingDinoConfig(
        backbone_config=swin,
        text_config=bert,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=20,
        max_text_len=32,
    )
    network = transformers.GroundingDinoForObjectDetection(config)
    return save(randomise(network), folder)


def write_owl(folder):
    table = write_clip_words(folder, 16)
    write_pictures(
        folder,
        size={"height": 64, "width": 64},
        do_pad=True,
        image_processor_type="Owlv2ImageProcessor",
        processor_class="Owlv2Processor",
    )
    vision = {
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 8,
    }
    config = transformers.Owlv2Config(
        text_config=clip_text(table, max_position_embeddings=16),
        vision_config=vision,
        projection_dim=16,
    )
    return save(randomise(transformers.Owlv2ForObjectDetection(config)), folder)


def write_lite(folder):
    table = write_sam3_rest(folder)
    text = clip_text(table, max_position_embeddings=77, projection_dim=16)
    parts = sam3_parts()
    config = transformers.Sam3LiteTextConfig(text_config=text, **parts)
    return save(randomise(transformers.Sam3LiteTextModel(config)), folder)


def write_sam3(folder):
    table = write_sam3_rest(folder)
    text = clip_text(
        table,
        model_type="clip_text_model",
        projection_dim=8,
        max_position_embeddings=32,
        hidden_act="gelu",
    )
    config = transformers.Sam3Config(text_config=text, **sam3_parts())
    network = randomise(transformers.Sam3Model(config))
    save(network, folder)
    return network


def spec_of(name, **more):
    return ModelSpec(name, "", "", "Apache-2.0", 600, url="there", **more)


def reader(name, folder, text=""):
    """Load a folder as the model of a name."""
    return load(spec_of(name, text=text), folder, "cpu", "fp32")
