"""What conversations use, reserved before it is used and bounded by caps: `Ledger`, and the values it speaks in."""

from skill_actors.sessions.ledger.account import Account
from skill_actors.sessions.ledger.agents import AgentHold, AgentTerms
from skill_actors.sessions.ledger.caps import Cap, CapState, cap_name
from skill_actors.sessions.ledger.exceeded import BudgetExceeded, CapUse
from skill_actors.sessions.ledger.ledger import Hold, Ledger
from skill_actors.sessions.ledger.limits import Limits
from skill_actors.store.ledger import Amounts, UsageRow

__all__ = [
    "Account",
    "AgentHold",
    "AgentTerms",
    "Amounts",
    "BudgetExceeded",
    "Cap",
    "CapState",
    "CapUse",
    "Hold",
    "Ledger",
    "Limits",
    "UsageRow",
    "cap_name",
]
