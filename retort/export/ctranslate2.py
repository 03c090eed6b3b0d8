"""Autoregressive checkpoints for other engines: CTranslate2 (https://opennmt.net/CTranslate2), a C++ decoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from torch import Tensor, nn

from retort.data.vocabulary import SOURCE_MODEL, TARGET_MODEL
from retort.errors import RetortError
from retort.models.autoregressive import AutoregressiveModel
from retort.models.checkpoint import load_checkpoint
from retort.models.embeddings import Positions
from retort.models.layers import CrossAttention, Decoder, Encoder, FeedForward, SelfAttention

LAYER_NORM_EPSILON = nn.LayerNorm(1).eps


def export_ctranslate2(checkpoint_directory: Path | str, output_directory: Path | str) -> None:
    """Write an autoregressive checkpoint as a float32 CTranslate2 model, which ``ctranslate2.Translator`` loads.

    Sources are pieces of the vocabulary without eos; hypotheses are pieces. The two models for sentencepiece are
    copied along. Unlike Retort's searches, CTranslate2 may emit pad, bos, mask and blank: name their pieces in
    ``suppress_sequences``. Raises RetortError if the checkpoint is of another family, if the output directory exists
    and is not empty, or if the package ctranslate2 is not installed.
    """
    specs = _specs()
    model, vocabulary, description = load_checkpoint(checkpoint_directory, torch.device("cpu"))
    if not isinstance(model, AutoregressiveModel) or model.family != AutoregressiveModel.family:
        raise RetortError(
            f"{checkpoint_directory}: a {model.family} model trained as {description['objective']['name']}; "
            f"CTranslate2 decodes left to right only, with Transformers: give the checkpoint of an autoregressive one"
        )
    output = Path(output_directory)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RetortError(f"{output}: exists already and is not an empty directory; give another --output")
    spec = _convert(model, specs)
    spec.register_source_vocabulary(model_pieces(Path(checkpoint_directory) / SOURCE_MODEL))
    spec.register_target_vocabulary(model_pieces(Path(checkpoint_directory) / TARGET_MODEL))
    spec.validate()
    output.mkdir(parents=True, exist_ok=True)
    vocabulary.copy_to(output)
    spec.save(str(output))


def _specs() -> Any:
    try:
        import ctranslate2.specs
    except ImportError:
        raise RetortError(
            "the export needs the package ctranslate2, which is not installed; run: pip install ctranslate2"
        ) from None
    return ctranslate2.specs


def _convert(model: AutoregressiveModel, specs: Any) -> Any:
    config = model.config
    activations = specs.common_spec.Activation
    spec = specs.TransformerSpec.from_config(
        (config.encoder_layers, config.decoder_layers),
        config.heads,
        pre_norm=config.norm == "pre",
        activation=activations.RELU if config.activation == "relu" else activations.GELU,
        no_final_norm=config.norm == "post",
    )
    embeddings, positions = model.embeddings, model.embeddings.positions
    assert isinstance(positions, Positions)
    spec.encoder.embeddings[0].weight = _array(embeddings.source)
    spec.decoder.embeddings.weight = _array(embeddings.target)
    spec.decoder.projection.weight = _array(embeddings.output)
    for side in (spec.encoder, spec.decoder):
        side.position_encodings.encodings = _array(positions.table[: config.max_length])
    _encoder(spec.encoder, model.encoder)
    _decoder(spec.decoder, model.decoder)
    spec.config.add_source_eos = True
    spec.config.layer_norm_epsilon = LAYER_NORM_EPSILON
    return spec


def model_pieces(path: Path) -> list[str]:
    """The pieces of a sentencepiece model, by id."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [processor.id_to_piece(i) for i in range(processor.get_piece_size())]


def _encoder(spec: Any, encoder: Encoder) -> None:
    for layer_spec, layer in zip(spec.layer, encoder.layers, strict=True):
        _self_attention(layer_spec.self_attention, layer.attention, layer.attention_block.norm)
        _feed_forward(layer_spec.ffn, layer.feed_forward, layer.feed_forward_block.norm)
    _norm(spec, encoder.norm)


def _decoder(spec: Any, decoder: Decoder) -> None:
    for layer_spec, layer in zip(spec.layer, decoder.layers, strict=True):
        _self_attention(layer_spec.self_attention, layer.attention, layer.attention_block.norm)
        _cross_attention(layer_spec.attention, layer.cross_attention, layer.cross_block.norm)
        _feed_forward(layer_spec.ffn, layer.feed_forward, layer.feed_forward_block.norm)
    _norm(spec, decoder.norm)


def _self_attention(spec: Any, module: SelfAttention, norm: nn.LayerNorm) -> None:
    _norm(spec, norm)
    _linears(spec.linear, (module.input, module.output))


def _cross_attention(spec: Any, module: CrossAttention, norm: nn.LayerNorm) -> None:
    _norm(spec, norm)
    _linears(spec.linear, (module.query, module.memory, module.output))


def _feed_forward(spec: Any, module: FeedForward, norm: nn.LayerNorm) -> None:
    _norm(spec, norm)
    _linears((spec.linear_0, spec.linear_1), (module.inner, module.outer))


def _linears(specs: Sequence[Any], modules: Sequence[nn.Linear]) -> None:
    for spec, module in zip(specs, modules, strict=True):
        spec.weight, spec.bias = _array(module.weight), _array(module.bias)


def _norm(spec: Any, norm: nn.Module) -> None:
    """Post-norm stacks end without a norm of their own."""
    if isinstance(norm, nn.LayerNorm):
        spec.layer_norm.gamma, spec.layer_norm.beta = _array(norm.weight), _array(norm.bias)


def _array(tensor: Tensor) -> Any:
    return tensor.detach().float().contiguous().numpy()
