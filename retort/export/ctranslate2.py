"""Autoregressive models for CTranslate2 (https://opennmt.net/CTranslate2), a C++ decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from torch import Tensor, nn

from retort.config import Model, ObjectiveSection
from retort.data.files import write_bytes
from retort.data.vocabulary import BLANK, MASK, PAD, Vocabulary
from retort.errors import RetortError
from retort.export.precision import Precision
from retort.export.shortlist import Shortlist
from retort.models.autoregressive import AutoregressiveModel
from retort.models.base import EncoderDecoder
from retort.models.embeddings import Positions
from retort.models.families import family_module
from retort.models.layers import (
    CrossAttention,
    Decoder,
    Encoder,
    FeedForward,
    SelfAttention,
)

TITLE = "CTranslate2"
PACKAGES = ("ctranslate2",)
IS_EXACT = False

VMAP = "vmap.txt"
"""Name of the file of a shortlist."""

LAYER_NORM_EPSILON = nn.LayerNorm(1).eps


def searches(objective: ObjectiveSection) -> tuple[str, ...]:
    """The searches of an objective that CTranslate2 has: those of a model that decodes from left to right alone."""
    return ("beam", "greedy") if objective.family == AutoregressiveModel.family else ()


def unsupported(objective: ObjectiveSection, model: Model) -> str | None:
    """What ``has_decoder`` finds, without the weights."""
    if family_module(objective, model) == AutoregressiveModel.__module__:
        return None
    return f"{TITLE} runs autoregressive Transformers alone"


def has_decoder(model: EncoderDecoder) -> TypeGuard[AutoregressiveModel]:
    """Whether CTranslate2 has the decoder of a model."""
    return isinstance(model, AutoregressiveModel) and model.one_stream


def caveat(search: Mapping[str, Any]) -> str | None:
    """Where a beam search ends."""
    if search["kind"] != "beam":
        return None
    return (
        "CTranslate2 ends a beam search sooner than torch: in float32, too, about one output in 10 to 25 of small "
        "models differs by that."
    )


def write(
    model: EncoderDecoder,
    vocabulary: Vocabulary,
    directory: Path,
    precision: Precision,
    shortlist: Shortlist | None = None,
) -> dict[str, Any]:
    """Write a model that ``ctranslate2.Translator`` loads from a directory; there is nothing to know besides.

    Sources are pieces of the vocabulary without eos; hypotheses are pieces. Unlike Retort's searches, CTranslate2 may
    emit pad, bos, mask and blank: name their pieces in ``suppress_sequences``. Raises RetortError for a model that it
    does not have, or if the package ctranslate2 is not installed.
    """
    specs = _specs()
    if not has_decoder(model):
        raise RetortError(f"CTranslate2 decodes with autoregressive Transformers, and this is a {model.family} model")
    spec = _convert(model, specs)
    spec.register_source_vocabulary(vocabulary.source_pieces)
    spec.register_target_vocabulary(vocabulary.target_pieces)
    spec.validate()
    if precision == "int8":
        spec.optimize(quantization="int8")
    spec.save(str(directory))
    if shortlist:
        _write_shortlist(shortlist, vocabulary, directory)
    return {}


def _write_shortlist(shortlist: Shortlist, vocabulary: Vocabulary, directory: Path) -> None:
    """Write the mapping that CTranslate2 calls vmap: lines of a source piece, a tab, and its candidates.

    Those of an empty piece are candidates always. So are the pieces that are suppressed: CTranslate2 needs an id in the
    list for each of them. It adds bos, eos and unk itself.
    """
    source, target = vocabulary.source_pieces, vocabulary.target_pieces
    rows = [("", [PAD, MASK, BLANK, *shortlist.frequent.tolist()])]
    rows += [(source[i], ids.tolist()) for i, ids in enumerate(shortlist.by_source) if len(ids)]
    text = "".join(f"{piece}\t{' '.join(target[i] for i in ids)}\n" for piece, ids in rows)
    write_bytes(directory / VMAP, text.encode())


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
        # scoring an output without an end takes one position more: that of the token after the limit, and eos
        side.position_encodings.encodings = _array(positions.table[: config.max_length + 1])
    _encoder(spec.encoder, model.encoder)
    _decoder(spec.decoder, model.decoder)
    spec.config.add_source_eos = True
    spec.config.layer_norm_epsilon = LAYER_NORM_EPSILON
    return spec


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
