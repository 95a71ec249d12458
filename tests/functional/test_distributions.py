import pytest
import torch
from torch import distributions as td

from lit_rl.functional import distributions as ours

SHAPES = [(6,), (3, 4)]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(params=SHAPES, ids=str)
def shape(request):
    return request.param


def test_categorical(shape):
    p, q = 3 * normal(*shape, 5), normal(*shape, 5, seed=1)
    reference = td.Categorical(logits=p)
    action = reference.sample()
    torch.testing.assert_close(ours.categorical_log_prob(p, action), reference.log_prob(action))
    torch.testing.assert_close(ours.categorical_entropy(p), reference.entropy())
    torch.testing.assert_close(ours.categorical_kl(p, q), td.kl_divergence(reference, td.Categorical(logits=q)))
    assert torch.equal(ours.categorical_mode(p), reference.mode)


def test_masked_categorical_is_the_categorical_over_legal_actions():
    logits = normal(4, 5)
    legal = [0, 2, 3]
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[:, legal] = True
    logits[:, 1] = 50.0  # the likeliest action is illegal
    small, other = td.Categorical(logits=logits[:, legal]), td.Categorical(logits=normal(4, 5, seed=1)[:, legal])
    action = torch.tensor([0, 2, 3, 2])
    small_action = torch.tensor([0, 1, 2, 1])
    torch.testing.assert_close(ours.categorical_log_prob(logits, action, mask), small.log_prob(small_action))
    torch.testing.assert_close(ours.categorical_entropy(logits, mask), small.entropy())
    torch.testing.assert_close(ours.categorical_kl(logits, normal(4, 5, seed=1), mask), td.kl_divergence(small, other))
    assert torch.equal(ours.categorical_mode(logits, mask), torch.tensor(legal)[small.probs.argmax(-1)])
    assert (ours.categorical_log_prob(logits, torch.ones(4, dtype=torch.long), mask) < -1e30).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_masks_make_no_nan_and_give_illegal_logits_no_gradient(dtype):
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], dtype=dtype, requires_grad=True)
    mask = torch.tensor([[True, False, True], [False, False, True]])
    entropy = ours.categorical_entropy(logits, mask)
    log_prob = ours.categorical_log_prob(logits, torch.tensor([2, 2]), mask)
    (entropy + log_prob).sum().backward()
    assert entropy[1] == 0 and log_prob[1] == 0  # one legal action: certain
    assert torch.isfinite(logits.grad).all() and (logits.grad[~mask] == 0).all() and (logits.grad[0, 0] != 0)


def test_multi_categorical(shape):
    nvec = [3, 2, 4]
    p, q = normal(*shape, 9), normal(*shape, 9, seed=1)
    blocks_p = [td.Categorical(logits=block) for block in p.split(nvec, -1)]
    blocks_q = [td.Categorical(logits=block) for block in q.split(nvec, -1)]
    action = torch.stack([block.sample() for block in blocks_p], -1)
    expected = sum(block.log_prob(action[..., k]) for k, block in enumerate(blocks_p))
    torch.testing.assert_close(ours.multi_categorical_log_prob(p, action, nvec), expected)
    torch.testing.assert_close(ours.multi_categorical_entropy(p, nvec), sum(b.entropy() for b in blocks_p))
    kl = sum(td.kl_divergence(a, b) for a, b in zip(blocks_p, blocks_q, strict=True))
    torch.testing.assert_close(ours.multi_categorical_kl(p, q, nvec), kl)
    assert torch.equal(ours.multi_categorical_mode(p, nvec), torch.stack([b.mode for b in blocks_p], -1))


def test_masked_multi_categorical():
    # Choices of 2 and 3 equal options; the second may not take its last: entropy log 2 + log 2.
    mask = torch.tensor([[True, True, True, True, False]])
    logits = torch.zeros(1, 5, dtype=torch.float64)
    two = 2 * torch.log(torch.tensor([2.0], dtype=torch.float64))
    torch.testing.assert_close(ours.multi_categorical_entropy(logits, [2, 3], mask), two)
    torch.testing.assert_close(ours.multi_categorical_log_prob(logits, torch.tensor([[1, 0]]), [2, 3], mask), -two)
    logits[0, 4] = 9.0
    assert ours.multi_categorical_mode(logits, [2, 3], mask)[0, 1] != 2


def test_bernoulli(shape):
    p, q = 3 * normal(*shape, 4), normal(*shape, 4, seed=1)
    reference = td.Independent(td.Bernoulli(logits=p), 1)
    action = reference.sample()
    torch.testing.assert_close(ours.bernoulli_log_prob(p, action.to(torch.int8)), reference.log_prob(action))
    torch.testing.assert_close(ours.bernoulli_entropy(p), reference.entropy())
    expected = td.kl_divergence(reference, td.Independent(td.Bernoulli(logits=q), 1))
    torch.testing.assert_close(ours.bernoulli_kl(p, q), expected)
    assert torch.equal(ours.bernoulli_mode(p), (reference.mean > 0.5).long())


@pytest.mark.parametrize("shared", [True, False], ids=["one log_std", "log_std per row"])
def test_gaussian(shape, shared):
    mean, action, mean_q = normal(*shape, 3), normal(*shape, 3, seed=1), normal(*shape, 3, seed=2)
    log_std, log_std_q = (normal(3, seed=s) if shared else normal(*shape, 3, seed=s) for s in (3, 4))
    p = td.Independent(td.Normal(mean, log_std.exp().expand_as(mean)), 1)
    q = td.Independent(td.Normal(mean_q, log_std_q.exp().expand_as(mean)), 1)
    torch.testing.assert_close(ours.gaussian_log_prob(mean, log_std, action), p.log_prob(action))
    torch.testing.assert_close(ours.gaussian_entropy(mean, log_std), p.entropy())
    torch.testing.assert_close(ours.gaussian_kl(mean, log_std, mean_q, log_std_q), td.kl_divergence(p, q))


def squashed_reference(mean, log_std, scale, bias):
    transforms = [td.TanhTransform(cache_size=1), td.AffineTransform(bias, scale, cache_size=1)]
    return td.Independent(td.TransformedDistribution(td.Normal(mean, log_std.exp().expand_as(mean)), transforms), 1)


def test_squashed_gaussian(shape):
    mean, noise, log_std = normal(*shape, 3), normal(*shape, 3, seed=1), normal(3, seed=2) / 2
    scale, bias = torch.tensor([2.0, 1.0, 0.5]).double(), torch.tensor([0.0, -1.0, 3.0]).double()
    sample = ours.squashed_gaussian_sample(mean, log_std, noise, scale, bias)
    torch.testing.assert_close(sample.unsquashed, mean + log_std.exp() * noise)
    torch.testing.assert_close(sample.action, bias + scale * torch.tanh(sample.unsquashed))
    expected = squashed_reference(mean, log_std, scale, bias).log_prob(sample.action)
    torch.testing.assert_close(sample.log_prob, expected)
    again = ours.squashed_gaussian_log_prob(mean, log_std, sample.unsquashed, scale)
    torch.testing.assert_close(again, sample.log_prob)


def test_squashed_density_integrates_to_one():
    # ∫ p(a) da over (−1, 5) = (bias ∓ scale), on a grid of a itself: a wrong Jacobian would miss 1.
    scale, bias = torch.tensor([3.0]).double(), torch.tensor([2.0]).double()
    action = torch.linspace(-1 + 1e-9, 5 - 1e-9, 400_001, dtype=torch.float64)[:, None]
    u = torch.atanh((action - bias) / scale)
    density = ours.squashed_gaussian_log_prob(torch.full_like(u, 0.3), torch.tensor([-0.7]).double(), u, scale).exp()
    assert torch.trapezoid(density, action[:, 0]).item() == pytest.approx(1.0, abs=1e-6)


def test_squashed_gradients_are_right_and_finite_far_out():
    scale, bias = torch.ones(2).double(), torch.zeros(2).double()
    mean = torch.tensor([[0.3, -0.8]], dtype=torch.float64, requires_grad=True)
    log_std = torch.tensor([-0.5, 0.2], dtype=torch.float64, requires_grad=True)
    noise = normal(1, 2, seed=5)
    assert torch.autograd.gradcheck(
        lambda m, s: ours.squashed_gaussian_sample(m, s, noise, scale, bias).log_prob, (mean, log_std)
    )
    far = torch.tensor([[80.0, -80.0]], requires_grad=True)  # float32 tanh is ±1 here: atanh would be ±∞
    ours.squashed_gaussian_log_prob(torch.zeros(1, 2), torch.zeros(2), far, torch.ones(2)).sum().backward()
    assert torch.isfinite(far.grad).all()
