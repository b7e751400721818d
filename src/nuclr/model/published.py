"""Read published checkpoints without executing any code in them.

A published file is a pickle. It is read by torch's restricted unpickler, which builds tensors and
plain containers and calls nothing else; the classes of an omegaconf configuration are replaced by
stand-ins that only store their state. Two publishers are known: the authors of NuCLR
(``model_state_dict`` beside ``cfg``) and the IBL's BrainWideBench (the same weights, and the run's
configuration under another name), so weights and configuration are recognised by their content.
"""

from __future__ import annotations

import math
import pickle
import re
import typing
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from nuclr.config import Modality
from nuclr.errors import ModelError
from nuclr.model.encoder import Encoder, EncoderSpec


@dataclass(frozen=True)
class PublishedModel:
    """An encoder from a published checkpoint.

    Attributes
    ----------
    encoder
        The encoder in evaluation mode.
    modality
        ``"spikes"`` or ``"calcium"``.
    window_s, bin_s
        Length of a window and of a bin or frame (s).
    """

    encoder: Encoder
    modality: Modality
    window_s: float
    bin_s: float


class _Held:
    """Stand-in for a class of a configuration: it stores the state and does nothing else."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


# One stand-in per class, because torch distinguishes allowed classes by identity.
_STAND_INS = {
    f"omegaconf.{name}": type(name.rsplit(".", 1)[1], (_Held,), {})
    for name in (
        "dictconfig.DictConfig",
        "listconfig.ListConfig",
        "base.ContainerMetadata",
        "base.Metadata",
        "nodes.AnyNode",
        "nodes.StringNode",
        "nodes.IntegerNode",
        "nodes.FloatNode",
        "nodes.BooleanNode",
        "nodes.PathNode",
    )
}
_ALLOWED: list[Any] = [
    *((stand_in, name) for name, stand_in in _STAND_INS.items()),
    (type("Any", (), {}), "typing.Any"),
    (defaultdict, "collections.defaultdict"),
    # Old pickles use the module's name in Python 2.
    *(
        (kind, f"{module}.{kind.__name__}")
        for module in ("builtins", "__builtin__")
        for kind in (dict, list, tuple, str, int, float, bool)
    ),
]


def read_published(path: Path) -> PublishedModel:
    """Read a checkpoint published by the authors of NuCLR or by BrainWideBench.

    Size, depth, patch and tokens are derived from the weights; window and bin from the configuration
    beside them (``ctx_duration``; ``bin_size`` and ``latent_step`` for spikes).

    Raises
    ------
    ModelError
        If the file is damaged, would load anything but tensors and plain containers, or contains no
        NuCLR encoder or no configuration of one.
    """
    content = _read(path)
    weights = _find(content, lambda x: isinstance(x.get("read_in.weight"), Tensor))
    if weights is None:
        raise ModelError(f"{path}: the checkpoint contains no NuCLR encoder (no tensor read_in.weight)")
    model = _find(content, lambda x: _number(x.get("ctx_duration")) is not None and "dim" in x)
    if model is None:
        raise ModelError(f"{path}: the checkpoint contains no model configuration (no model.ctx_duration)")
    own = {name: x for name, x in weights.items() if not name.startswith("projector.")}
    try:
        spec = _spec_of(own)
        encoder = Encoder(spec)
        encoder.load_state_dict(own)
    except (KeyError, ValueError, RuntimeError, ModelError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{path}: the weights do not form a NuCLR encoder ({reason})") from None

    window_s = float(model["ctx_duration"])
    bin_s = _number(model.get("bin_size"))
    if bin_s is None:
        # Calcium: the configuration has no frame length, but the window has a known number of frames.
        return PublishedModel(encoder.eval(), "calcium", window_s, window_s / (spec.tokens * spec.patch))
    patch_s = _number(model.get("latent_step")) or spec.patch * bin_s
    if round(patch_s / bin_s) != spec.patch or round(window_s / patch_s) != spec.tokens:
        raise ModelError(
            f"{path}: the configuration (windows of {window_s} s, patches of {patch_s} s, bins of {bin_s} s) "
            f"does not match the weights ({spec.tokens} tokens of {spec.patch} bins)"
        )
    return PublishedModel(encoder.eval(), "spikes", window_s, bin_s)


def _read(path: Path) -> dict[str, Any]:
    """Unpickle tensors and plain containers only; configurations become dictionaries."""
    try:
        if not zipfile.is_zipfile(path):
            raise ModelError(f"{path}: not a checkpoint written by torch.save; download it again")
        with safe_globals(_ALLOWED):
            if unsafe := get_unsafe_globals_in_checkpoint(path):
                raise ModelError(
                    f"{path}: the checkpoint would load {', '.join(sorted(unsafe))}; it is refused, because "
                    "only tensors and plain containers are loaded: anything else could run code"
                )
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        reason = re.split(r"[\n.]", str(error).strip())[0][:200]
        raise ModelError(
            f"{path}: the checkpoint cannot be loaded safely ({reason}); download it again"
        ) from None
    plain = _plain(content)
    if not isinstance(plain, dict):
        raise ModelError(f"{path}: not a checkpoint (it contains no dictionary)")
    return plain


def _plain(value: Any) -> Any:
    """Convert stand-ins of omegaconf's containers and values to plain containers and values."""
    if isinstance(value, _Held):
        state = value.state
        return _plain(state.get("_content", state.get("_val"))) if isinstance(state, dict) else None
    if isinstance(value, Mapping):
        return {_plain(key) if isinstance(key, _Held) else key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from _mappings(item)


def _find(content: dict[str, Any], wanted: typing.Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
    """Return the outermost dictionary that satisfies ``wanted``, without a wrapper's prefix in its keys."""
    for found in _mappings(content):
        names = [name for name in found if isinstance(name, str)]
        for prefix in ("", "module.", "model.", "encoder."):
            inner = {name.removeprefix(prefix): found[name] for name in names if name.startswith(prefix)}
            if wanted(inner):
                return inner
    return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _spec_of(weights: dict[str, Any]) -> EncoderSpec:
    """Derive the shape of an encoder from its weights."""
    dim, patch = weights["read_in.weight"].shape
    omega = weights["rotary_emb.omega"]
    dim_head = 2 * len(omega)
    turning = omega[omega > 0]
    if not len(turning):
        raise ValueError("rotary_emb.omega is zero everywhere, so the number of tokens is unknown")

    def blocks(kind: str) -> int:
        return len({name.split(".")[1] for name in weights if name.startswith(f"{kind}.")})

    qkv = next(x for name, x in weights.items() if name.endswith("to_qkv.weight"))
    return EncoderSpec(
        patch=patch,
        # The longest period is 8 windows.
        tokens=round(2 * math.pi / float(turning.min()) / 8),
        dim=dim,
        heads=len(qkv) // (3 * dim_head),
        dim_head=dim_head,
        temporal_blocks=blocks("t_blocks"),
        spatiotemporal_blocks=blocks("st_blocks"),
    )
