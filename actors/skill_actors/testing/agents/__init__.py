"""For tests of whatever uses agent backends: one whose agents do what a script says, and checks for real ones.

    agents = ScriptedAgents([[UseTool("Bash", {"command": "make"}, ask=True), Say("It builds.")]])
    session = await agents.start_session(AgentSpec(agent="any", folder=folder))
    result = await session.send_message(AgentRequest(prompt="build it"))

Nothing of them runs outside of the test. `measure_agents` tries what a backend promises: ours pass it, and whoever
writes another one calls it from a test of their own.
"""

from .conformance import AGENT_CHECKS, AgentCheck, AgentFinding, AgentTrial, measure_agents
from .scripted import (
    Die,
    Fail,
    Hang,
    Say,
    ScriptedAgents,
    Spend,
    Step,
    Tell,
    UseTool,
    Wait,
    echo,
)

__all__ = [
    "AGENT_CHECKS",
    "AgentCheck",
    "AgentFinding",
    "AgentTrial",
    "Die",
    "Fail",
    "Hang",
    "Say",
    "ScriptedAgents",
    "Spend",
    "Step",
    "Tell",
    "UseTool",
    "Wait",
    "echo",
    "measure_agents",
]
