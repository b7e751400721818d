"""The encoder's layers on a GPU, with the same results as :mod:`nuclr.model.encoder`.

Operations that need one pass over memory use the kernels in :mod:`nuclr.model.kernels`, attention across
units works without padding, and tokens keep the autocast type throughout.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nuclr.model.attention import Populations
from nuclr.model.encoder import Encoder, EncoderSpec

# NVIDIA GPUs with bf16: A100 and later.
FIRST_CAPABILITY = (8, 0)


def can_fuse(spec: EncoderSpec, device: torch.device) -> bool:
    """Return whether this module supports an encoder on a device: an NVIDIA GPU with bf16, and Triton."""
    if device.type != "cuda" or torch.version.hip or find_spec("triton") is None:
        return False
    if torch.cuda.get_device_capability(device) < FIRST_CAPABILITY:
        return False
    from nuclr.model import kernels

    return kernels.fits(spec.tokens, spec.dim, spec.dim_head)


def embed(encoder: Encoder, patches: Tensor, sizes: Tensor, largest: int) -> Tensor:
    """Embed every unit of a ragged batch, like :meth:`nuclr.model.encoder.Encoder.forward`.

    Parameters
    ----------
    encoder
        The encoder, with its weights, dropout and training mode.
    patches
        ``(unit, token, patch)``, at least one unit.
    sizes, largest
        Number of units in each population, and the largest of these numbers.

    Returns
    -------
    Tensor
        ``(unit, dim)``, float32.
    """
    # Imported here, because builds of torch without CUDA come without Triton.
    from nuclr.model import kernels

    kind = _kind(encoder, patches.device.type)
    spec, layers = encoder.spec, encoder.layers()
    p = spec.dropout if encoder.training else 0.0
    seeds = _seeds(2 * len(layers), patches.device) if p > 0 else None
    heads = spec.heads
    cos, sin = encoder.rotary_emb.angles(patches.shape[1])
    populations = Populations(sizes, largest, len(patches))
    # Triton works on the current GPU, wherever the tensors are.
    with torch.cuda.device_of(patches), torch.autocast(patches.device.type, enabled=False):
        x = _linear(patches.to(kind), encoder.read_in)
        if not layers:
            return x.mean(dim=1, dtype=torch.float32)
        first = layers[0][1].norm
        normed = F.layer_norm(x.float(), first.normalized_shape, first.weight, first.bias, first.eps).to(kind)
        for index, (way, layer) in enumerate(layers):
            seed, other = (seeds[2 * index], seeds[2 * index + 1]) if seeds else (None, None)
            if way == "feed_forward":
                inner, outer = layer.in_proj, layer.out_proj
                change = kernels.gated_layer(
                    normed,
                    inner.weight.to(kind),
                    inner.bias.to(kind),
                    outer.weight.to(kind),
                    outer.bias.to(kind),
                    p,
                    seed,
                )
            elif way == "along_time":
                seen = kernels.attend_in_time(_linear(normed, layer.to_qkv), heads, cos, sin)
                change = _linear(seen, layer.to_out)
            else:
                change = _linear(populations.attend(normed, layer.to_qkv, heads), layer.to_out)
            if index + 1 < len(layers):
                norm = layers[index + 1][1].norm
                x, normed = kernels.add_norm(x, change, norm.weight, norm.bias, norm.eps, p, other)
        return (x + F.dropout(change, p, training=p > 0)).mean(dim=1, dtype=torch.float32)


def _seeds(count: int, device: torch.device) -> tuple[Tensor, ...]:
    """Draw seeds for dropout from torch's generator, one for each use in a step.

    Each seed starts at a multiple of 16 bytes; for other addresses Triton would compile another kernel.
    """
    return torch.randint(2**62, (count, 2), device=device)[:, 0].unbind()


def _kind(encoder: Encoder, device: str) -> torch.dtype:
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return encoder.read_in.weight.dtype


def _linear(x: Tensor, linear: nn.Linear) -> Tensor:
    return F.linear(x, linear.weight.to(x.dtype), linear.bias.to(x.dtype))
