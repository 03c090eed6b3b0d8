import pytest

from retort.corpus.language.lexicon import (
    ADJECTIVE_ENDINGS,
    CONTENT,
    MERGED,
    SOURCE_PLURAL,
    TARGET_PLURAL,
    Lexicon,
    make_lexicon,
)


def forms(lexicon: Lexicon) -> tuple[list[str], list[str]]:
    source = [word for words in lexicon.source.values() for word in words]
    source += [word + SOURCE_PLURAL for word in lexicon.source["noun"]]
    entries = {variants for words in lexicon.target.values() for variants in words}
    target = [variant.stem for variants in entries for variant in variants]
    target += [v.stem + TARGET_PLURAL for variants in set(lexicon.target["noun"]) for v in variants]
    target += [v.stem + end for variants in lexicon.target["adjective"] for v in variants for end in ADJECTIVE_ENDINGS]
    particles = [form for pair in lexicon.determiners for form in pair] + [lexicon.opening, lexicon.object_marker]
    return source, target + particles


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_form_belongs_to_two_words(seed):
    source, target = forms(make_lexicon(seed, 1.0))
    assert len(set(source + target)) == len(source) + len(target)
    assert 60 <= len(source) <= 150
    assert 60 <= len(forms(make_lexicon(seed, 0.5))[1]) <= 180


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_share_of_synonyms(share):
    lexicon = make_lexicon(1, share)
    for category, count in CONTENT.items():
        distinct = set(lexicon.target[category])
        assert len(distinct) == count - MERGED.get(category, 0)
        with_synonym = sum(len(variants) == 2 for variants in lexicon.target[category])
        assert with_synonym == pytest.approx(share * count, abs=MERGED.get(category, 0) + 0.5)


def test_the_seed_decides():
    assert make_lexicon(1, 0.5) == make_lexicon(1, 0.5) != make_lexicon(2, 0.5)
