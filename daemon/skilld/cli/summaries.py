"""What each command of skillctl does, in a sentence: listed without importing them, which would take half a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["SUMMARIES"]

SUMMARIES: Final[Mapping[str, str]] = {
    "approvals": "Show calls that wait for an approval: what would run, where, with which files, and why.",
    "approve": "Let a call run that waits for an approval, exactly as it was shown.",
    "ask": "Ask an agent and print its answer as it is written.",
    "attach": "Follow a conversation as it happens.",
    "backends": "Show what each backend can do.",
    "backup": "Save everything that the running daemon keeps: conversations, their files, copies of skills.",
    "board": "See what is to be done, add to it, and do it.",
    "budget": "Show and set caps on what may be spent, in dollars, tokens, seconds of turns and calls of tools.",
    "cancel": "Cancel the running turn of a session, or one turn.",
    "cast": "Tell an agent something and wait for nothing.",
    "chat": "Talk with a model, message by message.",
    "compact": "Put a summary in the place of the earlier part of a conversation, so that later turns cost less.",
    "completion": "Print the completion script for a shell.",
    "config": "Check and show the configuration, which needs no running daemon; have a running one read it again.",
    "debug": "Gather what is needed to find out what goes wrong.",
    "deny": "Keep a call from running that waits for an approval.",
    "docker": "Build the images of the docker backend, and check the engine.",
    "doctor": "Look for what would keep the daemon from working here.",
    "export": "Write a conversation as lines of JSON, one event a line, for 'import' or for programs.",
    "files": "List, fetch, send and delete the files of a conversation, and what a storage has of them.",
    "fork": "Go on from a copy of a conversation, and leave the conversation as it is.",
    "health": "Ask whether the daemon lives and takes messages.",
    "import": "Make a conversation from an exported one.",
    "install": "Install skilld as a service of systemd: its units, its account and its configuration.",
    "logs": "Show the log of the service, which systemd's journal keeps.",
    "man": "Show the manual page of a command; into a pipe, its source.",
    "mcp": "Give another program the workshop: an MCP server on standard input and output.",
    "metrics": "Print the daemon's metrics in Prometheus' text format.",
    "pause": "Hold a conversation still until 'skillctl resume', also over restarts of the daemon.",
    "policy": "See what the rules of [policy] make of a call.",
    "rename": "Give a conversation a title of at most 200 characters.",
    "reset": "Begin a conversation anew under the same id.",
    "restore": "Put a backup into a state directory that no daemon uses.",
    "resume": "Let a paused conversation go on.",
    "rm": "Delete conversations with all their events and files.",
    "send": "Send a message and print the answer as it is written.",
    "sessions": "List conversations, the latest first.",
    "show": "Print a conversation.",
    "skills": "Make skills and judge them; see and change those that the daemon has.",
    "status": "Say what the daemon is doing now.",
    "steer": "Say something to the turn that runs: the model hears it before its next step.",
    "uninstall": "Stop the service, and remove what install has put there, but for what was edited.",
    "usage": "Show what was spent: your own, and with the role admin everybody's.",
    "wait": "Wait for a turn to end, or for a session until nothing runs or waits in it.",
    "workflow": "Have work done in stages, each by the agent that it needs.",
    "workshop": "Work with agents that have names, and with what they share.",
}
