"""Read OSDFace's published files into the four stages.

What users have (names fixed by the authors and by diffusers): a diffusers folder of Stable
Diffusion 2.1-base with ``unet/`` and ``vae/``, and beside it or elsewhere
``pytorch_lora_weights.safetensors``, ``embedding_change_weights.pth``, ``associate_2.ckpt``.
Pickles are opened with ``weights_only=True`` only.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from quantface_export.errors import QuantfaceError
from quantface_export.osdface.config import ModelConfig
from quantface_export.osdface.model import Osdface

State = dict[str, Tensor]

LORA = "pytorch_lora_weights.safetensors"
PROMPT = "embedding_change_weights.pth"
VRE = "associate_2.ckpt"
WEIGHTS = "diffusion_pytorch_model.safetensors"
VRE_PREFIX = "vqvae_LQ."
VRE_IGNORED = ("decoder.", "post_quant_conv.")
LORA_ALPHA = 16
LISTED = 10


class CheckpointError(QuantfaceError):
    """A checkpoint file that is missing, unreadable, or of another model."""


def load_osdface(config: ModelConfig, diffusion: Path, osdface: Path) -> Osdface:
    """The restorer of ``config`` with the weights of the published files.

    Args:
        config: Expected shapes.
        diffusion: Folder with ``unet/`` and ``vae/`` in diffusers' layout.
        osdface: Folder with OSDFace's own three files.

    Raises:
        CheckpointError: A file is missing or can't be read, or its keys or shapes differ
            (the first ten are listed).
    """
    model = Osdface(config)
    unet = _safetensors(diffusion / "unet" / WEIGHTS)
    merge_lora(unet, _safetensors(osdface / LORA), osdface / LORA)
    _fill(model.unet.unet, unet, diffusion / "unet" / WEIGHTS)
    vae = nn.ModuleDict(
        {
            "encoder": model.vae_encoder.encoder,
            "quant_conv": model.vae_encoder.quant_conv,
            "decoder": model.vae_decoder.decoder,
            "post_quant_conv": model.vae_decoder.post_quant_conv,
        }
    )
    _fill(vae, _safetensors(diffusion / "vae" / WEIGHTS), diffusion / "vae" / WEIGHTS)
    prompt = {k: v.squeeze(-1) if v.ndim == 3 else v for k, v in _pickle(osdface / PROMPT).items()}
    _fill(model.vre.embedding_change, prompt, osdface / PROMPT)
    _fill(model.vre.vre, _vre_state(osdface / VRE), osdface / VRE)
    return model.eval().requires_grad_(False)


def merge_lora(state: State, lora: State, source: Path) -> None:
    """``W += (alpha / r) B A`` for every adapted layer of ``state``, in place.

    Keys are ``unet.<module>.lora_A.weight`` / ``lora_B.weight`` or, in older files,
    ``.lora.down.weight`` / ``.lora.up.weight``. For convolutions A is (r, C, kh, kw) and B
    (F, r, 1, 1).

    Raises:
        CheckpointError: A pair is incomplete, or names or shapes a layer that is not there.
    """
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, tensor in lora.items():
        name = key.removeprefix("unet.").removesuffix(".weight")
        for suffix, part in (
            ("lora_A", "a"),
            ("lora_B", "b"),
            ("lora.down", "a"),
            ("lora.up", "b"),
        ):
            if name.endswith(f".{suffix}"):
                pairs.setdefault(name.removesuffix(f".{suffix}"), {})[part] = tensor.float()
    if not pairs:
        raise CheckpointError(
            f"{source} holds no LoRA pairs; expected keys like unet.*.lora_A.weight"
        )
    for name, pair in pairs.items():
        key = f"{name}.weight"
        if set(pair) != {"a", "b"} or key not in state:
            what = "only half of a pair" if key in state else "a layer the UNet does not have"
            raise CheckpointError(f"{source}: {name} is {what}; give the LoRA of this UNet")
        a, b = pair["a"], pair["b"]
        delta = (b.flatten(1) @ a.flatten(1)).reshape(len(b), *a.shape[1:])
        if delta.shape != state[key].shape:
            raise CheckpointError(
                f"{source}: {name} is {tuple(delta.shape)}, the UNet's is {tuple(state[key].shape)}"
            )
        state[key] = state[key].float() + LORA_ALPHA / len(a) * delta


def _safetensors(path: Path) -> State:
    _require(path)
    try:
        return load_file(path)
    except SafetensorError as e:
        raise CheckpointError(f"{path} can't be read ({e}); download it again") from e


def _pickle(path: Path) -> State:
    _require(path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as e:
        raise CheckpointError(
            f"{path} is damaged or holds more than tensors, and is not opened for safety; "
            "save its state dict alone with torch.save"
        ) from e
    return loaded.get("state_dict", loaded)


def _vre_state(path: Path) -> State:
    own = {
        k.removeprefix(VRE_PREFIX): v for k, v in _pickle(path).items() if k.startswith(VRE_PREFIX)
    }
    return {k: v for k, v in own.items() if not k.startswith(VRE_IGNORED)}


def _require(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; expected OSDFace's file of that name")


def _fill(module: nn.Module, state: State, source: Path) -> None:
    """Copy ``state`` into ``module``; every key and shape must match."""
    own = module.state_dict()
    problems = [f"missing {k} {tuple(v.shape)}" for k, v in own.items() if k not in state]
    problems += [f"unexpected {k} {tuple(v.shape)}" for k, v in state.items() if k not in own]
    problems += [
        f"{k} is {tuple(state[k].shape)}, expected {tuple(v.shape)}"
        for k, v in own.items()
        if k in state and state[k].shape != v.shape
    ]
    if problems:
        listed = "; ".join(problems[:LISTED])
        raise CheckpointError(
            f"{source} is of another model: {len(problems)} keys differ: {listed}"
        )
    module.load_state_dict({k: v.float() for k, v in state.items()})
