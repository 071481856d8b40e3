"""`skilld-broker`: the one who holds the container engine's socket, which is worth as much as root on the host.

It listens on a socket of its own, speaks the few requests of the engine's API that the docker backend makes, and makes
containers by one template only: whoever speaks to it can have containers without rights, and nothing else. It has no
model, no skill and no conversation, and reads and writes no file.
"""

from __future__ import annotations

from skilld.broker.rules import Forbidden, Limits
from skilld.broker.server import Broker

__all__ = ["Broker", "Forbidden", "Limits"]
