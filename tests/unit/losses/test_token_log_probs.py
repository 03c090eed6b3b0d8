"""Log-probabilities of chosen tokens, without the logits of the whole vocabulary."""

import torch

from retort.losses.token_log_probs import token_log_probs, uniform_log_probs


def test_the_uniform_cross_entropy_needs_no_logits():
    torch.manual_seed(2)
    states, weight = torch.randn(3, 7, 6, requires_grad=True), torch.randn(11, 6, requires_grad=True)
    tokens = torch.tensor([[5, 7], [8, 6], [5, 0]])
    found = uniform_log_probs(states, weight, tokens, token_log_probs(states, weight, tokens))
    expected = torch.log_softmax(states @ weight.t(), -1).mean(-1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    direction = torch.randn_like(found)
    for x in (states, weight):
        ours, theirs = (torch.autograd.grad((y * direction).sum(), x, retain_graph=True)[0] for y in (found, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
