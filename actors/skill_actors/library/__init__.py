"""Conversations with skills in a program of one's own: open one, chat, close it. No daemon is needed."""

from .asking import AskModel
from .callbacks import CALLBACKS, Callback
from .errors import KINDS, Kind, SkillError, wrap
from .files import SessionFile
from .registry import Registry, load_skills
from .response import ChatResponse
from .session import Session
from .starting import default_executor, new_anthropic, new_docker, new_hybrid, new_local, new_native, start_session

__all__ = [
    "CALLBACKS",
    "KINDS",
    "AskModel",
    "Callback",
    "ChatResponse",
    "Kind",
    "Registry",
    "Session",
    "SessionFile",
    "SkillError",
    "default_executor",
    "load_skills",
    "new_anthropic",
    "new_docker",
    "new_hybrid",
    "new_local",
    "new_native",
    "start_session",
    "wrap",
]
