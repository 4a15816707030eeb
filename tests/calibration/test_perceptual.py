"""The perceptual distance, and LPIPS from files of the published names and shapes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import Encoder
from torch import Tensor, nn

from calibration.perceptual import PerceptualDistance, encoder_distance, load_lpips, mse

EPS = torch.finfo(torch.float32).eps

ALEX = {  # torchvision's index in ``features``: (out, in, kernel)
    0: (64, 3, 11),
    3: (192, 64, 5),
    6: (384, 192, 3),
    8: (256, 384, 3),
    10: (256, 256, 3),
}
VGG_INDICES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
VGG_WIDTHS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
VGG = {n: (VGG_WIDTHS[i + 1], VGG_WIDTHS[i], 3) for i, n in enumerate(VGG_INDICES)}
TAPS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}

State = dict[str, Tensor]


def backbone_state(kind: str) -> State:
    generator = torch.Generator().manual_seed(1)
    state: State = {}
    for n, (c_out, c_in, k) in (ALEX if kind == "alex" else VGG).items():
        w = torch.randn(c_out, c_in, k, k, generator=generator)
        state[f"features.{n}.weight"] = w * (2 / (c_in * k * k)) ** 0.5
        state[f"features.{n}.bias"] = 0.1 * torch.randn(c_out, generator=generator)
    # the classifier of a real file is 90 % of it; it must be ignored
    state["classifier.1.weight"] = torch.ones(5, 7)
    state["classifier.1.bias"] = torch.ones(5)
    return state


def linear_state(kind: str) -> State:
    generator = torch.Generator().manual_seed(2)
    return {
        f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1, generator=generator)
        for i, c in enumerate(TAPS[kind])
    }


@pytest.fixture(scope="module", params=["alex", "vgg"])
def published(request, tmp_path_factory) -> tuple[str, State, State, Path, Path]:
    kind = request.param
    folder = tmp_path_factory.mktemp(kind)
    features, lines = backbone_state(kind), linear_state(kind)
    torch.save(features, folder / "backbone.pth")
    torch.save(lines, folder / "linear.pth")
    return kind, features, lines, folder / "backbone.pth", folder / "linear.pth"


def pictures(side: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(2, 3, side, side, generator=generator) * 2 - 1 for _ in range(2))
    return a, b


def tapped(kind: str, state: State, image: Tensor) -> list[Tensor]:
    """The five feature maps of LPIPS, from torchvision's definition of the two networks."""
    mean, std = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x = (image - mean[None, :, None, None]) / std[None, :, None, None]

    def conv(x: Tensor, n: int, **geometry: int) -> Tensor:
        return F.conv2d(x, state[f"features.{n}.weight"], state[f"features.{n}.bias"], **geometry)

    found = []
    if kind == "alex":
        x = F.relu(conv(x, 0, stride=4, padding=2))
        found.append(x)
        x = F.relu(conv(F.max_pool2d(x, 3, 2), 3, padding=2))
        found.append(x)
        x = F.relu(conv(F.max_pool2d(x, 3, 2), 6, padding=1))
        found.append(x)
        x = F.relu(conv(x, 8, padding=1))
        found.append(x)
        found.append(F.relu(conv(x, 10, padding=1)))
        return found
    for group in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
        x = x if group[0] == 0 else F.max_pool2d(x, 2)
        for n in group:
            x = F.relu(conv(x, n, padding=1))
        found.append(x)
    return found


def expected_distance(kind: str, state: State, lines: State, a: Tensor, b: Tensor) -> Tensor:
    total = torch.zeros(len(a))
    for i, pair in enumerate(zip(tapped(kind, state, a), tapped(kind, state, b), strict=True)):
        x, y = (f / f.square().sum(1, keepdim=True).sqrt().clamp_min(1e-10) for f in pair)
        total += (lines[f"lin{i}.model.1.weight"] * (x - y) ** 2).sum(1).mean((1, 2))
    return total


def test_lpips_is_its_definition(published) -> None:
    kind, state, lines, backbone, linear = published
    distance = load_lpips(backbone, linear)
    assert distance.name == {"alex": "LPIPS (AlexNet)", "vgg": "LPIPS (VGG-16)"}[kind]
    a, b = pictures(64)
    found, expected = distance(a, b), expected_distance(kind, state, lines, a, b)
    assert found.shape == (2,)
    assert expected.min() > 0.01
    # the same convolutions; only sums over at most 512 channels are ordered otherwise
    assert ((found - expected).abs() <= 512 * EPS * expected).all()
    assert distance(a, a).tolist() == [0, 0]


def test_lpips_trains_nothing_but_passes_gradients(published) -> None:
    *_, backbone, linear = published
    distance = load_lpips(backbone, linear)
    assert not any(p.requires_grad for p in distance.parameters())
    a, b = pictures(64)
    (grad,) = torch.autograd.grad(distance(a.requires_grad_(), b).sum(), a)
    assert torch.isfinite(grad).all()
    assert grad.abs().max() > 0


def tiny_encoder() -> nn.Module:
    torch.manual_seed(3)
    encoder = Encoder(
        in_channels=3,
        out_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        double_z=False,
    )
    return encoder.eval().requires_grad_(False)


def squares(image: Tensor) -> Sequence[Tensor]:
    return [image + 2, torch.cat([image, image**2], 1)]


DISTANCES = {
    "own features": lambda: PerceptualDistance("own", squares),
    "weighted": lambda: PerceptualDistance("own", squares, [torch.rand(3), torch.rand(6)]),
    "encoder": lambda: encoder_distance(tiny_encoder()),
}


@pytest.mark.parametrize("kind", DISTANCES)
def test_distance_is_zero_for_equal_images_and_symmetric(kind: str) -> None:
    distance, (a, b) = DISTANCES[kind](), pictures(16)
    assert distance(a, a.clone()).tolist() == [0, 0]
    assert torch.equal(distance(a, b), distance(b, a))
    assert distance(a, b).min() > 0


@pytest.mark.parametrize("kind", DISTANCES)
def test_distance_grows_with_noise(kind: str) -> None:
    distance, (a, noise) = DISTANCES[kind](), pictures(16)
    grown = [distance(a, (1 - s) * a + s * noise) for s in (0.02, 0.1, 0.3, 0.9)]
    for less, more in pairwise(grown):
        assert (less < more).all()


def test_encoder_features_are_what_the_encoder_computes() -> None:
    encoder, (a, _) = tiny_encoder(), pictures(16)
    seen: list[Tensor] = []
    taken = (encoder.down_blocks[0].downsamplers[0], encoder.mid_block)
    handles = [m.register_forward_pre_hook(lambda _, args: seen.append(args[0])) for m in taken]
    handles.append(encoder.mid_block.register_forward_hook(lambda *args: seen.append(args[2])))
    encoder(a)
    for handle in handles:
        handle.remove()
    found = encoder_distance(encoder).features(a)
    assert [f.shape[1:] for f in found] == [(8, 16, 16), (16, 8, 8), (16, 8, 8)]
    for f, s in zip(found, seen, strict=True):
        assert torch.equal(f, s)


def test_normalized_features_have_unit_length() -> None:
    a, _ = pictures(16)
    for f in DISTANCES["encoder"]().normalized(a):
        assert (f.norm(dim=1) - 1).abs().max() <= 16 * EPS


def test_mse_is_per_image() -> None:
    a, b = pictures(8)
    found = mse(a, b)
    expected = [float(((a[i] - b[i]) ** 2).double().mean()) for i in range(2)]
    assert found.tolist() == pytest.approx(expected, rel=3 * 64 * EPS)


def alex_files(folder: Path, state: Any, lines: Any) -> tuple[Path, Path]:
    backbone, linear = folder / "backbone.pth", folder / "linear.pth"
    torch.save(state, backbone)
    torch.save(lines, linear)
    return backbone, linear


def refused(backbone: Path, linear: Path, named: Path) -> str:
    with pytest.raises(ValueError, match=str(named)) as e:
        load_lpips(backbone, linear)
    assert "\n" not in str(e.value)
    return str(e.value)


def test_other_networks_are_refused(tmp_path: Path) -> None:
    lines = linear_state("alex")
    resnet = {"conv1.weight": torch.zeros(64, 3, 7, 7), "bn1.weight": torch.zeros(64)}
    b, li = alex_files(tmp_path, resnet, lines)
    assert "neither torchvision's AlexNet nor its VGG-16" in refused(b, li, b)
    b, li = alex_files(tmp_path, {"features.0.weight": torch.zeros(96, 3, 11, 11)}, lines)
    refused(b, li, b)


def test_swapped_files_are_refused(tmp_path: Path) -> None:
    b, li = alex_files(tmp_path, backbone_state("alex"), linear_state("alex"))
    refused(li, b, li)


@pytest.mark.parametrize("spoil", ["missing layer", "another shape", "VGG-11"])
def test_a_network_of_other_layers_is_refused(tmp_path: Path, spoil: str) -> None:
    state = backbone_state("alex")
    if spoil == "missing layer":
        del state["features.10.weight"]
    if spoil == "another shape":
        state["features.3.weight"] = torch.zeros(192, 64, 3, 3)
    if spoil == "VGG-11":
        state = {"features.0.weight": torch.zeros(64, 3, 3, 3), "features.0.bias": torch.zeros(64)}
        state["features.3.weight"] = torch.zeros(128, 64, 3, 3)
    b, li = alex_files(tmp_path, state, linear_state("alex"))
    refused(b, li, b)


@pytest.mark.parametrize("spoil", ["missing line", "lines of VGG-16", "negative"])
def test_other_linear_weights_are_refused(tmp_path: Path, spoil: str) -> None:
    lines = linear_state("alex")
    if spoil == "missing line":
        del lines["lin4.model.1.weight"]
    if spoil == "lines of VGG-16":
        lines = linear_state("vgg")
    if spoil == "negative":
        lines["lin2.model.1.weight"][0, 7] = -0.1
    b, li = alex_files(tmp_path, backbone_state("alex"), lines)
    refused(b, li, li)


@pytest.mark.parametrize("content", [b"", b"not a network\n", bytes(range(256))])
@pytest.mark.parametrize("which", [0, 1])
def test_files_that_torch_did_not_write_are_refused(
    tmp_path: Path, which: int, content: bytes
) -> None:
    files = alex_files(tmp_path, backbone_state("alex"), linear_state("alex"))
    files[which].write_bytes(content)
    refused(*files, files[which])


@pytest.mark.parametrize("which", [0, 1])
def test_a_list_instead_of_a_state_is_refused(tmp_path: Path, which: int) -> None:
    states = [backbone_state("alex"), linear_state("alex")]
    states[which] = [1, 2]  # type: ignore[call-overload]
    files = alex_files(tmp_path, *states)
    refused(*files, files[which])
