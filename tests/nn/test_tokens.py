import jax.numpy as jnp
import numpy as np

from mmjax.array_types import Tokens
from mmjax.nn.tokens import clear_masked, join_modalities


def test_clear_masked_drops_nan_and_casts():
  tokens = Tokens(
    jnp.array([[[1.0, 2.0], [jnp.nan, 3.0]]]), jnp.array([[True, False]])
  )
  cleared = clear_masked(tokens, "bfloat16")
  assert cleared.dtype == jnp.bfloat16
  np.testing.assert_array_equal(
    np.asarray(cleared, np.float32), [[[1, 2], [0, 0]]]
  )


def test_join_modalities_in_sorted_order():
  tokens = {
    "text": Tokens(jnp.zeros((1, 3, 9)), jnp.array([[True, False, True]])),
    "image": Tokens(jnp.zeros((1, 2, 9)), jnp.array([[False, True]])),
  }
  values = {"text": 7 * jnp.ones((1, 3, 5)), "image": jnp.ones((1, 2, 5))}
  joined = join_modalities(values, tokens)
  assert joined.group_sizes == (2, 3)
  np.testing.assert_array_equal(joined.values[0, :, 4], [1, 1, 7, 7, 7])
  np.testing.assert_array_equal(joined.mask, [[False, True, True, False, True]])
