"""Tiny models of the package transformers, made here from random weights."""

from __future__ import annotations

import json
import random
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch

from retort.config.external import TransformersTeacher
from retort.errors import RetortError
from retort.teachers.base import Answer, Output, Question, open_external

transformers = pytest.importorskip("transformers", reason="the package transformers is not installed")

SIZES: dict[str, Any] = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 64}
HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
PROMPT = "Say {source} backwards:"


def lines() -> list[str]:
    rng = random.Random(1)
    return [" ".join("".join(rng.choices("abcdefgh", k=3)) for _ in range(rng.randint(1, 6))) for _ in range(200)]


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MarianMT with its two sentencepiece models."""
    directory = tmp_path_factory.mktemp("marian")
    (directory / "text").write_text("\n".join(lines()))
    for side in ("source", "target"):
        sentencepiece.SentencePieceTrainer.train(
            input=str(directory / "text"), model_prefix=str(directory / side), vocab_size=60, minloglevel=2
        )
        (directory / f"{side}.model").rename(directory / f"{side}.spm")
    processor = sentencepiece.SentencePieceProcessor(str(directory / "source.spm"))
    pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    names = ["</s>", "<unk>", *(p for p in pieces if p not in ("<s>", "</s>", "<unk>")), "<pad>"]
    write_json(directory / "vocab.json", {piece: i for i, piece in enumerate(names)})
    spm = {side: str(directory / f"{side}.spm") for side in ("source", "target")}
    tokenizer = transformers.MarianTokenizer(
        source_spm=spm["source"], target_spm=spm["target"], vocab=str(directory / "vocab.json")
    )
    torch.manual_seed(1)
    pad = len(names) - 1
    ids = {"pad_token_id": pad, "eos_token_id": 0, "decoder_start_token_id": pad, "forced_eos_token_id": 0}
    model = transformers.MarianMTModel(
        transformers.MarianConfig(vocab_size=len(names), **SIZES, **HEADS, **ids, init_std=1.0)
    )
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def m2m(marian: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An M2M-100, with word pieces that are also codes of languages."""
    directory = tmp_path_factory.mktemp("m2m")
    processor = sentencepiece.SentencePieceProcessor(str(marian / "source.spm"))
    pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    names = dict.fromkeys(["<s>", "<pad>", "</s>", "<unk>", *pieces, "de", "en"])
    write_json(directory / "vocab.json", {piece: i for i, piece in enumerate(names)})
    tokenizer = transformers.M2M100Tokenizer(str(directory / "vocab.json"), str(marian / "source.spm"))
    size = len(names) + len(tokenizer.lang_code_to_token)
    torch.manual_seed(3)
    settings = transformers.M2M100Config(vocab_size=size, **SIZES, **HEADS, init_std=1.0)
    transformers.M2M100ForConditionalGeneration(settings).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder-only model with a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    directory = tmp_path_factory.mktemp("causal")
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator([*lines(), PROMPT, "user assistant"], trainers.BpeTrainer(
        vocab_size=120, special_tokens=["<unk>", "<end>"]
    ))  # fmt: skip
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>")
    fast.chat_template = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}assistant"
    torch.manual_seed(2)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    settings = transformers.LlamaConfig(
        vocab_size=len(fast),
        eos_token_id=1,
        bos_token_id=None,
        initializer_range=1.0,
        max_position_embeddings=64,
        **shape,
    )
    transformers.LlamaForCausalLM(settings).save_pretrained(directory)
    fast.save_pretrained(directory)
    return directory


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def answers(texts: list[str], model: Path | str, **keys: Any) -> list[Answer]:
    whole = {"max_length": 12, "device": "cpu", **keys}
    teacher = open_external(TransformersTeacher(kind="transformers", model=str(model), **whole), "train")
    found = teacher.answer([Question(i, text) for i, text in enumerate(texts)])
    return sorted(found, key=lambda answer: answer.question.id)


def texts_of(found: list[Answer]) -> list[str]:
    return [answer.outputs[0].text for answer in found]


@pytest.mark.slow
def test_a_translator_gives_what_its_own_generate_gives(marian: Path) -> None:
    texts = lines()[:20]
    found = answers(texts, marian, beam_size=3, batch_tokens=40)
    tokenizer = transformers.AutoTokenizer.from_pretrained(marian)
    model = transformers.MarianMTModel.from_pretrained(marian).eval()
    for text, answer in zip(texts, found, strict=True):
        given = tokenizer([text], return_tensors="pt")
        limit = {"max_new_tokens": 13, "max_length": None, "forced_eos_token_id": None}
        tokens = model.generate(**given, num_beams=3, **limit)
        assert answer.outputs[0].text == " ".join(tokenizer.decode(tokens[0], skip_special_tokens=True).split())
        assert answer.outputs[0].ended == ("stop" if 0 in tokens[0].tolist()[1:] else "length")
    assert len(set(texts_of(found))) > 5


def test_a_model_that_forces_its_end_says_what_was_cut(marian: Path) -> None:
    assert transformers.GenerationConfig.from_pretrained(marian).forced_eos_token_id == 0
    ends = {answer.outputs[0].ended for answer in answers(lines()[:20], marian, beam_size=1, max_length=1)}
    assert "length" in ends


def test_a_source_longer_than_the_model_has_an_empty_output(marian: Path, caplog: pytest.LogCaptureFixture) -> None:
    texts = [*lines()[:3], "abc " * 50, lines()[3]]
    found = answers(texts, marian, beam_size=2, outputs=2)
    assert found[3].outputs == [Output("", "length")] * 2
    assert re.search(rf"source 3, {texts[3][:80]!r}: its \d+ tokens do not fit the model \(at most 64\)", caplog.text)
    without = answers([*texts[:3], texts[4]], marian, beam_size=2, outputs=2)
    assert texts_of(without) == [text for i, text in enumerate(texts_of(found)) if i != 3]


def test_outputs_have_room_in_the_model(marian: Path, causal: Path) -> None:
    assert answers(["abc"], marian, beam_size=1, max_length=63)[0].outputs
    with pytest.raises(RetortError, match=r"max_length: 64; .* has 64 positions; give at most 63$"):
        answers(["abc"], marian, max_length=64)
    # its positions are relative
    assert answers(["abc " * 50], causal, task="generate", prompt=PROMPT, beam_size=1)[0].outputs[0].text


def test_several_outputs_and_batches(marian: Path) -> None:
    texts = lines()[:12]
    three = answers(texts, marian, beam_size=3, outputs=3)
    assert all(len(answer.outputs) == 3 for answer in three)
    assert texts_of(three) == texts_of(answers(texts, marian, beam_size=3, batch_tokens=16))
    sampled = answers(texts, marian, outputs=4, temperature=2.0)
    assert any(len({output.text for output in answer.outputs}) > 1 for answer in sampled)


def test_a_language_model_continues_the_prompt(causal: Path) -> None:
    texts = lines()[:10]
    found = answers(texts, causal, task="generate", prompt=PROMPT, beam_size=1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(causal)
    model = transformers.AutoModelForCausalLM.from_pretrained(causal).eval()
    for text, answer in zip(texts, found, strict=True):
        given = tokenizer([PROMPT.format(source=text)], return_tensors="pt")
        tokens = model.generate(
            input_ids=given["input_ids"], attention_mask=given["attention_mask"], do_sample=False, max_new_tokens=13,
            pad_token_id=1,
        )[0, given["input_ids"].shape[1] :]  # fmt: skip
        ends = tokens.tolist().index(1) if 1 in tokens.tolist() else None
        assert answer.outputs[0].text == " ".join(tokenizer.decode(tokens[:ends], skip_special_tokens=True).split())
        assert answer.outputs[0].ended == ("length" if ends is None else "stop")
    # in a batch, shorter prompts are padded on the left
    assert texts_of(answers(texts, causal, task="generate", prompt=PROMPT, beam_size=1, batch_tokens=16)) == texts_of(
        found
    )
    chat = answers(texts, causal, task="generate", prompt="{source}", chat=True, system="user", beam_size=1)
    assert texts_of(chat) != texts_of(found)


def test_a_language_is_the_token_of_its_code(m2m: Path) -> None:
    texts = lines()[:5]
    languages = {"source_language": "en", "target_language": "de"}
    found = answers(texts, m2m, beam_size=1, **languages)
    tokenizer = transformers.AutoTokenizer.from_pretrained(m2m, src_lang="en")
    model = transformers.M2M100ForConditionalGeneration.from_pretrained(m2m).eval()
    assert tokenizer.get_lang_id("de") != tokenizer.convert_tokens_to_ids("de")
    for text, answer in zip(texts, found, strict=True):
        limit = {"max_new_tokens": 13, "max_length": None, "forced_bos_token_id": tokenizer.get_lang_id("de")}
        tokens = model.generate(**tokenizer([text], return_tensors="pt"), num_beams=1, do_sample=False, **limit)
        assert answer.outputs[0].text == " ".join(tokenizer.decode(tokens[0], skip_special_tokens=True).split())
    for key in languages:
        with pytest.raises(RetortError, match=rf"{key}: .* has no language '__en__'; it has af, am, ar, .*\.\.\.$"):
            answers(texts, m2m, **{key: "__en__"})


def test_a_word_piece_is_no_language(marian: Path) -> None:
    piece = transformers.AutoTokenizer.from_pretrained(marian).convert_ids_to_tokens(5)
    with pytest.raises(RetortError, match="target_language: .* has no language '.*'; it has none"):
        answers(["a"], marian, target_language=piece)


def test_a_model_that_lacks_weights_is_refused(marian: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(marian, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.decoder.layers.0.fc1.bias"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(RetortError, match=r"lacks 1 weights, such as model\.decoder\.layers\.0\.fc1\.bias"):
        answers(["a"], tmp_path)


@pytest.mark.parametrize("kind", ["Bart", "T5"])
def test_a_model_whose_weights_are_tied_lacks_none(marian: Path, tmp_path: Path, kind: str) -> None:
    sizes = {
        "Bart": {**SIZES, **HEADS},
        "T5": {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2},
    }
    tokenizer = transformers.AutoTokenizer.from_pretrained(marian)
    tokenizer.save_pretrained(tmp_path)
    settings = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, eos_token_id=0, bos_token_id=0,
        decoder_start_token_id=0, forced_eos_token_id=None, **sizes[kind],
    )  # fmt: skip
    getattr(transformers, f"{kind}ForConditionalGeneration")(settings).save_pretrained(tmp_path)
    assert answers(["abc"], tmp_path, beam_size=1)[0].outputs


def test_what_is_not_there_is_named(marian: Path, causal: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(RetortError, match=r"model: .* cannot be loaded as task: translate: .*give a directory"):
        answers(["a"], tmp_path)
    with pytest.raises(RetortError, match="cannot be loaded as task: translate"):
        answers(["a"], causal)
    pickled = shutil.copytree(marian, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(RetortError, match="weights are read as safetensors only: save_pretrained"):
        answers(["a"], pickled)
    with pytest.raises(RetortError, match="external_teacher.target_language: .* has no language 'deu_Latn'"):
        answers(["a"], marian, target_language="deu_Latn")
    with pytest.raises(RetortError, match=r"has no chat template; set external_teacher\.chat: false"):
        answers(["a"], marian, prompt=PROMPT, chat=True)
    with pytest.raises(RetortError, match="external_teacher.device: nowhere cannot be used here"):
        answers(["a"], marian, device="nowhere")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(RetortError, match=r"pip install -r requirements-transformers\.txt"):
        answers(["a"], marian)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def reconfigure(path: Path, **keys: Any) -> None:
    write_json(path, json.loads(path.read_text()) | keys)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "weights that are cut": lambda model: cut(model / "model.safetensors"),
    "weights of another width": lambda model: reconfigure(model / "config.json", d_model=32),
    "a padding token beyond the vocabulary": lambda model: reconfigure(model / "config.json", pad_token_id=900),
    "word pieces that are cut": lambda model: cut(model / "source.spm"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_named(marian: Path, tmp_path: Path, damage: str) -> None:
    model = shutil.copytree(marian, tmp_path / "model")
    DAMAGES[damage](model)
    with pytest.raises(RetortError, match=f"model: {model} cannot be loaded as task: translate: .*; give a directory"):
        answers(["a"], model)


def test_memory_that_is_lacking_is_not_the_model_s_fault(marian: Path, monkeypatch: Any) -> None:
    def lack(*arguments: Any, **keys: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(transformers.AutoModelForSeq2SeqLM, "from_pretrained", lack)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        answers(["a"], marian)
