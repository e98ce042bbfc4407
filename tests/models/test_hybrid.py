"""The hybrid model: exchanges at depths, stages, and what must not change."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fusion_contract import make_variables
from fusion_start import find_still
from module_checks import assert_every_parameter_learns, random_variables

from mmjax.array_types import Tokens
from mmjax.encoders.bag_of_words import BagOfWords
from mmjax.encoders.extended import ExtendedEncoder, TransformerStage
from mmjax.encoders.image import GridEncoder
from mmjax.encoders.text import RecurrentEncoder
from mmjax.fusion.co_attention import CoAttention
from mmjax.fusion.concat import Concat
from mmjax.fusion.graph import GraphFusion
from mmjax.heads.classifier import Classifier
from mmjax.models.hybrid import Exchange, HybridModel
from mmjax.models.multimodal import MultimodalModel

WIDTH = 6
IMAGE = GridEncoder(width=WIDTH, features=(3, 6), norm="layer")
TEXT = RecurrentEncoder(vocabulary_size=11, embedding_dim=3, width=WIDTH)
HEAD = Classifier(num_classes=5, hidden=7)


class SumFusion(Concat):
  """A fusion that makes one token of everything: the sum of all means."""

  def __call__(self, tokens, *, train):
    """Sums."""
    fused = super().__call__(tokens, train=train)
    total = jnp.where(fused.mask[..., None], fused.values, 0).sum(axis=1)
    mask = fused.mask.any(axis=1, keepdims=True)
    return Tokens(total[:, None], mask)


def make_model(exchanges):
  return HybridModel(
    encoders={"image": IMAGE, "text": TEXT},
    exchanges=exchanges,
    fusion=Concat(WIDTH),
    head=HEAD,
  )


EXCHANGES = (
  Exchange(SumFusion(4)),
  None,
  Exchange(CoAttention(WIDTH, num_heads=2, num_rounds=1, mlp_dim=11)),
)


@pytest.fixture(scope="module")
def batch():
  rng = np.random.default_rng(5)
  return {
    "image": rng.integers(0, 256, [2, 8, 11, 3]).astype(np.uint8),
    "image_mask": np.array([True, True]),
    "image_index": np.array([0, 1, 1]),
    "text": rng.integers(1, 11, [3, 5]),
    "text_mask": np.arange(5) < np.array([[5], [2], [3]]),
  }


def setup(model, batch):
  variables = make_variables(model, batch)
  run = jax.jit(lambda v, b: model.apply(v, b, train=False)["logits"])
  return variables, run


def test_without_exchange_it_is_the_multimodal_model(batch, fast_compilation):
  """The same parameters and bits, rows shared by examples included."""
  hybrid = make_model((None,))
  plain = MultimodalModel(
    encoders=dict(hybrid.encoders), fusion=Concat(WIDTH), head=HEAD
  )
  variables, run = setup(hybrid, batch)
  _, run_plain = setup(plain, batch)
  np.testing.assert_array_equal(
    run(variables, batch), run_plain(variables, batch)
  )


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_information_flows_from_the_depth_of_the_exchange_on(
  batch, depth, fast_compilation
):
  """What text makes of the image is seen behind the exchange, not before."""
  model = make_model((*[None] * depth, Exchange(SumFusion(4))))
  variables, _ = setup(model, batch)
  parts = ("begin", "run_stage", "finish")

  @jax.jit
  def see(batch):
    _, state = model.apply(
      variables,
      batch,
      train=False,
      capture_intermediates=lambda _, name: name in parts,
      mutable="intermediates",
    )
    seen = state["intermediates"]
    flat = {}
    for m, number in (("image", 2), ("text", 1)):
      stages = [seen[f"encoders_{m}"][name] for name in parts]
      assert [len(stage) for stage in stages] == [1, number, 1]
      flat[m] = [stage.values for stages in stages for stage in stages]
    return flat

  before = see(batch)
  for sender, receiver in (("image", "text"), ("text", "image")):
    other = batch[sender].copy()
    other[1] = 10 - other[1]
    after = see({**batch, sender: other})
    assert np.abs(after[sender][0] - before[sender][0]).max() > 0
    # Begin, stage by stage, finish: the exchange stands behind number `depth`.
    for i, (one, two) in enumerate(
      zip(before[receiver], after[receiver], strict=True)
    ):
      is_behind = i > min(depth, len(before[receiver]) - 2)
      assert (np.abs(one - two).max() > 1e-5) == is_behind, (receiver, i)


def test_rows_are_shared_up_to_the_first_exchange(batch):
  """Two images for three texts: handed out where they first meet."""
  for depth, rows in ((0, [2, 3, 3]), (2, [2, 2, 2])):
    model = make_model((*[None] * depth, Exchange(SumFusion(4))))
    shapes = jax.eval_shape(
      lambda rng, model=model: model.init_with_output(
        rng,
        batch,
        train=False,
        capture_intermediates=lambda _, name: name in ("begin", "run_stage"),
        mutable=["params", "intermediates"],
      )[1],
      jax.random.key(0),
    )
    seen = shapes["intermediates"]["encoders_image"]
    stages = [*seen["begin"], *seen["run_stage"]]
    assert [len(stage.mask) for stage in stages] == rows


def test_exchanges_change_the_output_and_all_parameters_learn(
  batch, fast_compilation
):
  model = make_model(EXCHANGES)
  variables, run = setup(model, batch)
  assert set(variables["params"]) >= {"exchanges_0", "exchanges_2"}
  out = run(variables, batch)
  assert out.shape == (3, 5)
  weights = jax.random.normal(jax.random.key(3), out.shape)
  assert_every_parameter_learns(
    lambda v: (model.apply(v, batch, train=False)["logits"] * weights).sum(),
    variables,
  )
  plain, _ = setup(make_model(()), batch)
  shared = {
    "params": {name: variables["params"][name] for name in plain["params"]}
  }
  without = make_model(()).apply(shared, batch, train=False)["logits"]
  assert np.abs(out - without).max() > 1e-3


def test_exchanges_start_as_nothing_and_learn(batch, fast_compilation):
  model, plain = make_model(EXCHANGES), make_model(())
  first = jax.jit(lambda k: model.init(k, batch, train=False))(
    jax.random.key(7)
  )
  params = first["params"]
  without = {
    name: value
    for name, value in params.items()
    if not name.startswith("exchanges")
  }
  np.testing.assert_allclose(
    model.apply(first, batch, train=False)["logits"],
    plain.apply({"params": without}, batch, train=False)["logits"],
    atol=1e-6,
  )

  @jax.jit
  def descend(params):
    def loss(params):
      logits = model.apply({"params": params}, batch, train=False)["logits"]
      return jnp.sum(
        jnp.tanh(logits) * jax.random.normal(jax.random.key(3), logits.shape)
      )

    return jax.tree.map(
      lambda p, g: p - 0.01 * g, params, jax.grad(loss)(params)
    )

  for _ in range(3):
    params = descend(params)
  assert not find_still(jax.tree.map(jnp.subtract, params, first["params"]))


def test_a_batch_of_one(batch, fast_compilation):
  variables, run = setup(make_model(EXCHANGES), batch)
  one = {
    **batch,
    "image_index": batch["image_index"][1:2],
    "text": batch["text"][1:2],
    "text_mask": batch["text_mask"][1:2],
  }
  np.testing.assert_allclose(
    run(variables, one), run(variables, batch)[1:2], atol=1e-5
  )


def test_exchange_adds_what_the_unit_gives(fast_compilation):
  """One number a token, by hand: the mean of the fused tokens, projected."""
  rng = np.random.default_rng(2)
  tokens = {
    "a": Tokens(
      jnp.asarray(rng.normal(size=(2, 3, 4)), jnp.float32),
      jnp.array([[True, True, False], [False, False, False]]),
    ),
    "b": Tokens(
      jnp.asarray(rng.normal(size=(2, 2, 5)), jnp.float32),
      jnp.ones([2, 2], bool),
    ),
  }
  exchange = Exchange(SumFusion(4))
  variables = random_variables(exchange.init, tokens, train=False)
  out = exchange.apply(variables, tokens, train=False)
  fused = SumFusion(4).apply(
    {"params": variables["params"]["unit"]}, tokens, train=False
  )
  for m in tokens:
    dense = variables["params"][m]
    update = fused.values @ dense["kernel"] + dense["bias"]
    expected = np.where(tokens[m].mask[..., None], tokens[m].values + update, 0)
    np.testing.assert_allclose(out[m].values, expected, atol=1e-5)
    np.testing.assert_array_equal(out[m].mask, tokens[m].mask)


def test_a_unit_that_keeps_tokens_apart_gives_each_its_own(fast_compilation):
  unit = GraphFusion(4, num_heads=2, num_rounds=1, mlp_dim=5)
  tokens = {
    m: Tokens(
      jax.random.normal(jax.random.key(n), (2, n, 4)), jnp.ones([2, n], bool)
    )
    for m, n in (("a", 3), ("b", 2))
  }
  exchange = Exchange(unit)
  variables = random_variables(exchange.init, tokens, train=False)
  out = exchange.apply(variables, tokens, train=False)
  fused = unit.apply(
    {"params": variables["params"]["unit"]}, tokens, train=False
  )
  for m, piece in zip("ab", fused.split_groups(), strict=True):
    dense = variables["params"][m]
    update = piece.values @ dense["kernel"] + dense["bias"]
    np.testing.assert_allclose(
      out[m].values, tokens[m].values + update, atol=1e-5
    )


def test_an_encoder_without_stages_takes_part_at_depth_0(
  batch, fast_compilation
):
  """Any encoder, whole, and stages added behind it."""
  added = (TransformerStage(WIDTH, num_heads=3, mlp_dim=5),)
  model = HybridModel(
    encoders={
      "image": ExtendedEncoder(IMAGE, added),
      "text": BagOfWords(vocabulary_size=11, width=5),
    },
    exchanges=EXCHANGES[:1] * 2,
    fusion=Concat(WIDTH),
    head=HEAD,
  )
  variables, run = setup(model, batch)
  other = {**batch, "text": batch["text"] % 3}
  changed = np.abs(run(variables, batch) - run(variables, other))
  assert changed.max() > 1e-3
  assert_every_parameter_learns(
    lambda v: jnp.tanh(
      model.apply(v, batch, train=False)["logits"] * np.arange(1, 6)
    ).sum(),
    variables,
  )


def init_shapes(model, batch):
  return jax.eval_shape(
    lambda rng: model.init(rng, batch, train=False), jax.random.key(0)
  )


def test_wrong_depths_and_encoders_are_named(batch):
  model = make_model((None, None, None, Exchange(Concat(WIDTH))))
  with pytest.raises(ValueError, match="depth 3, but the encoders have 2"):
    init_shapes(model, batch)
  plain = make_model(()).clone(encoders={"image": IMAGE, "text": nn.Dense(3)})
  with pytest.raises(ValueError, match="'text'; put it into an ExtendedEnc"):
    init_shapes(plain, batch)
  uneven = {
    **batch,
    "text": batch["text"][:2],
    "text_mask": np.ones([2, 5], bool),
  }
  with pytest.raises(ValueError, match="different numbers of examples"):
    init_shapes(make_model(()), uneven)
