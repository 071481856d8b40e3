"""Images for containers, and the way to the engine that has them. Needs no daemon; `skillctl docker` is made of it."""

from .bootstrap import BootstrapFailed, apt_sources
from .build import FULL_IMAGE, LABEL, SLIM_IMAGE, BuildFailed, BuiltImage, build_full, build_slim, import_root
from .engine import connect, engine_address

__all__ = [
    "FULL_IMAGE",
    "LABEL",
    "SLIM_IMAGE",
    "BootstrapFailed",
    "BuildFailed",
    "BuiltImage",
    "apt_sources",
    "build_full",
    "build_slim",
    "connect",
    "engine_address",
    "import_root",
]
