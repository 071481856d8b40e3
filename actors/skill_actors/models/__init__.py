"""Models: the contract, the Messages API over the anthropic SDK, the offline model, prices, retries, keys.

Importing this package imports no SDK.
"""

from skill_actors.models.anthropic import ANTHROPIC_URL, AnthropicModel
from skill_actors.models.base import (
    Block,
    BlockDelta,
    BlockDone,
    BlockStart,
    Message,
    MessageDone,
    Model,
    ModelError,
    ModelEvent,
    ModelRequest,
    SkillHint,
    Usage,
    UsageSoFar,
)
from skill_actors.models.breaker import Breaker, BreakerPolicy
from skill_actors.models.credentials import CredentialError, KeyEnvironment, KeyFile, KeySource, find_key_source
from skill_actors.models.facts import ModelFacts, facts_of
from skill_actors.models.guarded import GuardedModel
from skill_actors.models.offline import OFFLINE_MODEL, OfflineModel
from skill_actors.models.prices import PriceError, PriceTable, Rates, cost_usd, load_prices
from skill_actors.models.retry import RetryPolicy, backoff

__all__ = [
    "ANTHROPIC_URL",
    "OFFLINE_MODEL",
    "AnthropicModel",
    "Block",
    "BlockDelta",
    "BlockDone",
    "BlockStart",
    "Breaker",
    "BreakerPolicy",
    "CredentialError",
    "GuardedModel",
    "KeyEnvironment",
    "KeyFile",
    "KeySource",
    "Message",
    "MessageDone",
    "Model",
    "ModelError",
    "ModelEvent",
    "ModelFacts",
    "ModelRequest",
    "OfflineModel",
    "PriceError",
    "PriceTable",
    "Rates",
    "RetryPolicy",
    "SkillHint",
    "Usage",
    "UsageSoFar",
    "backoff",
    "cost_usd",
    "facts_of",
    "find_key_source",
    "load_prices",
]
