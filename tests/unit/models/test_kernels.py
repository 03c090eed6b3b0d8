import pytest
import torch
from torch.nn import functional

from retort.models.kernels import MASKED, attend, dropout, embed, gather_last, reseed_dropout

PRECISIONS = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_right_share_and_scales_it_exactly(dtype, probability):
    reseed_dropout(1)
    x = torch.randn(50_000, 4).to(dtype).abs() + 1
    y = dropout(x, probability, training=True)
    kept = y != 0
    keep = round((1 - probability) * 32768) / 32768
    assert torch.equal(y, torch.where(kept, x * (1 / keep), 0))
    # the four columns are the four parts of each random word
    deviation = (keep * (1 - keep) / len(x)) ** 0.5
    assert (kept.float().mean(0) - keep).abs().max() < 5 * deviation
    together = (kept[:, 0] & kept[:, 1]).float().mean()
    assert abs(together - keep**2) < 5 * (keep**2 * (1 - keep**2) / len(x)) ** 0.5


def test_dropout_is_a_function_of_its_seed():
    x = torch.ones(3, 1000)
    masks = []
    for key in [(7, 1), (7, 1), (7, 2)]:
        reseed_dropout(*key)
        masks.append((dropout(x, 0.3, True), dropout(x, 0.3, True)))
    assert torch.equal(masks[0][0], masks[1][0])
    assert torch.equal(masks[0][1], masks[1][1])
    assert not torch.equal(masks[0][0], masks[0][1])
    assert not torch.equal(masks[0][0], masks[2][0])


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_dropouts_gradient_uses_the_same_mask(dtype):
    x = torch.randn(30, 20).to(dtype).t().requires_grad_()
    weight = torch.randn(20, 30).to(dtype)
    y = dropout(x, 0.25, True)
    (y * weight).sum().backward()
    assert 0 < int((y == 0).sum()) < y.numel()
    assert torch.equal(x.grad, torch.where(y == 0, 0, weight * (4 / 3)))


def test_no_dropout_is_the_identity():
    x = torch.randn(5, 5)
    assert dropout(x, 0.0, training=True) is x
    assert dropout(x, 0.5, training=False) is x


def problem(t: int = 5, s: int = 7, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    """Query, key, value and the gradient of the output."""
    generator = torch.Generator().manual_seed(3)
    query, key, value, gradient = (torch.randn(6, length, 4, generator=generator).to(dtype) for length in (t, s, s, t))
    return query.requires_grad_(), key.requires_grad_(), value.requires_grad_(), gradient


def biases(t: int, s: int) -> dict[str, torch.Tensor]:
    padding = torch.zeros(6, 1, s)
    padding[2:4, :, -2:] = MASKED
    causal = torch.full((1, t, s), MASKED).triu(1)
    return {"none": torch.zeros(1, 1, 1), "padding": padding, "causal": causal}


@pytest.mark.parametrize("kind", ["none", "padding", "causal"])
def test_attention_equals_torchs_with_its_gradients(kind):
    query, key, value, gradient = problem()
    bias = biases(5, 7)[kind]
    ours = attend(query, key, value, bias)
    own_gradients = torch.autograd.grad(ours, (query, key, value), gradient)
    doubles = [x.detach().double().requires_grad_() for x in (query, key, value)]
    theirs = functional.scaled_dot_product_attention(*doubles, attn_mask=bias.double())
    their_gradients = torch.autograd.grad(theirs, doubles, gradient.double())
    for own, other in zip((ours, *own_gradients), (theirs, *their_gradients), strict=True):
        torch.testing.assert_close(own.double(), other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 5, 7), (1, 5, 7), (6, 1, 1)])
def test_a_bias_has_a_gradient_where_it_needs_one(shape):
    query, key, value, gradient = problem()
    bias = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    ours = attend(query, key, value, bias)
    theirs = torch.softmax(query @ key.transpose(1, 2) / 2 + bias, -1) @ value
    for own, other in zip(*(torch.autograd.grad(y, (bias, query), gradient) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)


def test_masked_keys_and_values_do_not_count():
    query, key, value, _ = problem()
    bias = biases(5, 7)["padding"]
    before = attend(query, key, value, bias)
    changed = [x.detach().index_fill(1, torch.tensor([5, 6]), 9.0) for x in (key, value)]
    after = attend(query, *changed, bias)
    assert torch.equal(before[2:4], after[2:4])
    assert not torch.isclose(before[4:], after[4:]).all()


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_a_fully_masked_row_is_finite(dtype):
    query, key, value, gradient = problem(dtype=dtype)
    y = attend(query, key, value, torch.full((6, 1, 7), MASKED, dtype=dtype))
    gradients = torch.autograd.grad(y, (query, key, value), gradient)
    assert all(torch.isfinite(x).all() for x in (y, *gradients))


def test_attention_drops_weights_in_training_only():
    query, key, value, _ = problem()
    bias = torch.zeros(1, 1, 1)
    reseed_dropout(5)
    found = attend(query, key, value, bias, 0.5, training=True)
    reseed_dropout(5)
    weights = dropout(torch.softmax(query @ key.transpose(1, 2) / 2, -1), 0.5, True)
    torch.testing.assert_close(found, weights @ value)
    assert torch.equal(attend(query, key, value, bias, 0.5, training=False), attend(query, key, value, bias))


def test_the_embeddings_gradient_equals_torchs():
    ids = torch.tensor([[3, 1, 3], [0, 3, 1]])
    weight, gradient = torch.randn(5, 4, requires_grad=True), torch.randn(2, 3, 4)
    ours, theirs = embed(ids, weight), functional.embedding(ids, weight)
    assert torch.equal(ours, theirs)
    (own,), (other,) = (torch.autograd.grad(y, weight, gradient) for y in (ours, theirs))
    torch.testing.assert_close(own, other)


def test_frequent_words_gradients_are_summed_in_float32():
    weight = torch.zeros(2, 3, dtype=torch.bfloat16, requires_grad=True)
    embed(torch.zeros(10_000, dtype=torch.long), weight).sum().backward()
    torch.testing.assert_close(weight.grad[0].float(), torch.full((3,), 10_000.0), rtol=1 / 256, atol=0)


def test_what_is_gathered_has_torchs_gradient_summed_in_float32():
    x, index = torch.randn(2, 3, 5, requires_grad=True), torch.randint(5, (1, 3, 9)).expand(2, -1, -1)
    gradient = torch.randn(2, 3, 9)
    ours, theirs = gather_last(x, index), x.gather(-1, index)
    assert torch.equal(ours, theirs)
    (own,), (other,) = (torch.autograd.grad(y, x, gradient) for y in (ours, theirs))
    torch.testing.assert_close(own, other)
    rough = torch.zeros(2, dtype=torch.bfloat16, requires_grad=True)
    gather_last(rough, torch.zeros(10_000, dtype=torch.long)).sum().backward()
    assert rough.grad.tolist() == [pytest.approx(10_000, rel=1 / 256), 0]
