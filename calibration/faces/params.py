"""Every number that decides how one synthetic face looks.

Lengths are in crop sides: 1.0 is the width of the square picture at scale 1. The origin is the
point between the eyes, x to the right of the picture, y down, z out of the picture.
Angles are radians, colours linear-light RGB in 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

Colour = tuple[float, float, float]
BeardStyle = Literal["none", "stubble", "moustache", "goatee", "full"]
GlassesStyle = Literal["none", "round", "oval", "rectangle", "sun"]
Collar = Literal["crew", "v", "shirt", "turtleneck", "bare"]
BackdropKind = Literal["gradient", "cloudy", "blobs", "stripes", "foliage"]


def _bounded(default: float, low: float, high: float) -> float:
    value: float = field(default=default, metadata={"bounds": (low, high)})
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """Checks each field that was declared with bounds.

    Raises:
        ValueError: A field lies outside its bounds (or is not a number).
    """

    def __post_init__(self) -> None:
        for item in fields(self):
            if "bounds" not in item.metadata:
                continue
            low, high = item.metadata["bounds"]
            value = getattr(self, item.name)
            if not low <= value <= high:
                owner = type(self).__name__
                raise ValueError(f"{owner}.{item.name} must be in {low}..{high}, got {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head(Bounded):
    """Outline of the head: half width at the cheekbones, jaw and chin ratios, chin and crown."""

    width: float = _bounded(0.262, 0.22, 0.32)
    jaw: float = _bounded(0.80, 0.62, 0.98)
    chin_width: float = _bounded(0.36, 0.2, 0.55)
    chin: float = _bounded(0.45, 0.40, 0.49)
    crown: float = _bounded(0.40, 0.34, 0.46)
    cheeks: float = _bounded(0.5, 0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Skin(Bounded):
    """Tone (0 lightest, 1 darkest), undertone, blush, freckles, unevenness, wrinkles and shine."""

    tone: float = _bounded(0.25, 0.0, 1.0)
    warmth: float = _bounded(0.0, -1.0, 1.0)
    blush: float = _bounded(0.5, 0.0, 1.0)
    freckles: float = _bounded(0.0, 0.0, 1.0)
    roughness: float = _bounded(0.4, 0.0, 1.0)
    age: float = _bounded(0.3, 0.0, 1.0)
    shine: float = _bounded(0.4, 0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Eyes(Bounded):
    """Half distance between pupils, half width, lids, iris, gaze and make-up."""

    spacing: float = _bounded(0.125, 0.108, 0.142)
    width: float = _bounded(0.058, 0.045, 0.072)
    opening: float = _bounded(1.0, 0.45, 1.4)
    tilt: float = _bounded(0.06, -0.12, 0.25)
    crease: float = _bounded(0.6, 0.0, 1.0)
    lashes: float = _bounded(0.4, 0.0, 1.0)
    shadow: float = _bounded(0.1, 0.0, 1.0)
    gaze_x: float = _bounded(0.0, -1.0, 1.0)
    gaze_y: float = _bounded(0.0, -1.0, 1.0)
    iris: Colour = (0.10, 0.05, 0.02)


@dataclass(frozen=True, slots=True, kw_only=True)
class Brows(Bounded):
    """Height above the eyes, arch, thickness, density of hairs and slant (inner end down)."""

    height: float = _bounded(0.082, 0.055, 0.12)
    arch: float = _bounded(0.4, 0.0, 1.0)
    thickness: float = _bounded(0.5, 0.0, 1.0)
    density: float = _bounded(0.6, 0.0, 1.0)
    slant: float = _bounded(0.0, -1.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nose(Bounded):
    """Length from the eye line to the tip, half width at the wings, bridge and tip size."""

    length: float = _bounded(0.17, 0.135, 0.21)
    width: float = _bounded(0.047, 0.034, 0.068)
    bridge: float = _bounded(0.5, 0.0, 1.0)
    tip: float = _bounded(0.5, 0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mouth(Bounded):
    """Height of the lip line, half width, lip thickness, smile, opening and lipstick."""

    height: float = _bounded(0.268, 0.235, 0.305)
    width: float = _bounded(0.092, 0.07, 0.125)
    upper: float = _bounded(0.5, 0.0, 1.0)
    lower: float = _bounded(0.5, 0.0, 1.0)
    smile: float = _bounded(0.3, -0.4, 1.0)
    opening: float = _bounded(0.0, 0.0, 1.0)
    lipstick: float = _bounded(0.0, 0.0, 1.0)
    lip_colour: Colour = (0.35, 0.03, 0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hair(Bounded):
    """Hair on the head.

    Attributes:
        amount: Opacity; 0 is bald, about 0.6 is a shaved head.
        volume: Thickness beyond the skull.
        hairline: Height of the middle of the hairline above the eyes.
        temple: How far the corners of the hairline recede, 0..1.
        part: Sideways position of the parting.
        length: Lowest point of the hair at the sides, y below the eyes.
        inner: Inner edge of the side hair as a fraction of the head's width.
        fringe: How far a fringe falls over the forehead, 0..1.
        curl: 0 straight strands, 1 tight curls.
        wave: Sideways waviness of the strands.
        colour: Albedo.
        grey: Fraction of grey strands.
    """

    amount: float = _bounded(1.0, 0.0, 1.0)
    volume: float = _bounded(0.04, 0.0, 0.16)
    hairline: float = _bounded(0.23, 0.14, 0.34)
    temple: float = _bounded(0.3, 0.0, 1.0)
    part: float = _bounded(0.05, -0.15, 0.15)
    length: float = _bounded(0.0, -0.06, 0.8)
    inner: float = _bounded(0.95, 0.6, 1.0)
    fringe: float = _bounded(0.0, 0.0, 1.0)
    curl: float = _bounded(0.0, 0.0, 1.0)
    wave: float = _bounded(0.2, 0.0, 1.0)
    colour: Colour = (0.03, 0.015, 0.008)
    grey: float = _bounded(0.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beard(Bounded):
    """Facial hair: where it grows and how dense it is."""

    style: BeardStyle = "none"
    density: float = _bounded(0.7, 0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Glasses(Bounded):
    """Spectacles: frame, size of a lens (half width), rim thickness, tint and reflection."""

    style: GlassesStyle = "none"
    size: float = _bounded(0.088, 0.07, 0.105)
    rim: float = _bounded(0.4, 0.0, 1.0)
    tint: float = _bounded(0.05, 0.0, 1.0)
    glare: float = _bounded(0.2, 0.0, 1.0)
    colour: Colour = (0.02, 0.02, 0.02)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose(Bounded):
    """Turn (yaw > 0 to the picture's right), nod (pitch > 0 down), tilt, size and offset."""

    yaw: float = _bounded(0.0, -0.5, 0.5)
    pitch: float = _bounded(0.0, -0.3, 0.3)
    roll: float = _bounded(0.0, -0.4, 0.4)
    scale: float = _bounded(1.0, 0.8, 1.25)
    dx: float = _bounded(0.0, -0.1, 0.1)
    dy: float = _bounded(0.0, -0.1, 0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Light(Bounded):
    """Key light direction (azimuth > 0 from the picture's right), fill, softness and camera."""

    azimuth: float = _bounded(-0.6, -1.5, 1.5)
    elevation: float = _bounded(0.6, -0.3, 1.3)
    fill: float = _bounded(0.5, 0.1, 1.0)
    softness: float = _bounded(0.5, 0.0, 1.0)
    warmth: float = _bounded(0.0, -1.0, 1.0)
    exposure: float = _bounded(1.0, 0.5, 1.7)
    rim: float = _bounded(0.0, 0.0, 1.0)
    contrast: float = _bounded(0.4, 0.0, 0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene(Bounded):
    """What is around the face: backdrop colours and pattern, clothes."""

    backdrop: BackdropKind = "gradient"
    near: Colour = (0.25, 0.27, 0.30)
    far: Colour = (0.08, 0.09, 0.12)
    detail: float = _bounded(0.4, 0.0, 1.0)
    collar: Collar = "crew"
    cloth: Colour = (0.05, 0.07, 0.15)
    stripes: float = _bounded(0.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceParams:
    """All parameters of one face; ``texture`` seeds its skin, hair and fabric noise."""

    head: Head = field(default_factory=Head)
    skin: Skin = field(default_factory=Skin)
    eyes: Eyes = field(default_factory=Eyes)
    brows: Brows = field(default_factory=Brows)
    nose: Nose = field(default_factory=Nose)
    mouth: Mouth = field(default_factory=Mouth)
    hair: Hair = field(default_factory=Hair)
    beard: Beard = field(default_factory=Beard)
    glasses: Glasses = field(default_factory=Glasses)
    pose: Pose = field(default_factory=Pose)
    light: Light = field(default_factory=Light)
    scene: Scene = field(default_factory=Scene)
    texture: int = 0
