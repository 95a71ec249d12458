"""Where the fields of a packed transition lie in its row of bytes."""

import gymnasium
import numpy as np

from lit_rl.data.arrays import parts


def row_layout(observation_space: gymnasium.Space, action_space: gymnasium.Space, store_next: bool) -> np.dtype:
    """A structured dtype whose fields are aligned to 8 bytes, so that each column is a tensor over the same memory."""
    fields: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
    for key, part in parts(observation_space).items():
        fields[field_name("obs", key)] = part
    if store_next:
        for key, part in parts(observation_space).items():
            fields[field_name("next_obs", key)] = part
    fields["action"] = parts(action_space)[""]
    for name in ("log_prob", "reward", "discount"):
        fields[name] = (np.dtype(np.float32), ())
    fields["done"] = (np.dtype(bool), ())
    fields["final"] = (np.dtype(np.int32), ())  # slot of the final observation, where it is kept apart; else −1
    offsets, offset = [], 0
    for dtype, shape in fields.values():
        offsets.append(offset)
        offset += -(-dtype.itemsize * int(np.prod(shape)) // 8) * 8
    return np.dtype(
        {
            "names": list(fields),
            "formats": [(part, shape) for part, shape in fields.values()],
            "offsets": offsets,
            "itemsize": offset,
        }
    )


def field_name(name: str, key: str) -> str:
    """Of one array of an observation: ``obs``, or ``obs/key`` where it is a dict."""
    return f"{name}/{key}" if key else name
