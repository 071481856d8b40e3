"""Any program that takes a prompt and prints an answer as an agent backend, described by an operator."""

from .backend import CommandBackend, open_command
from .options import CommandOptions, command_options

__all__ = ["CommandBackend", "CommandOptions", "command_options", "open_command"]
