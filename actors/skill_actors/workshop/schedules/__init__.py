"""Schedules: messages to agents at times that were chosen beforehand.

`rule` says when, `due` what is to be done about it now, `schedules` keeps them, `scheduler` runs them.
"""

from skill_actors.workshop.schedules.rule import Rule, RuleFault
from skill_actors.workshop.schedules.schedule import Progress, Schedule, ScheduleSettings
from skill_actors.workshop.schedules.scheduler import CastsToAgents, Scheduler
from skill_actors.workshop.schedules.schedules import Schedules

__all__ = [
    "CastsToAgents",
    "Progress",
    "Rule",
    "RuleFault",
    "Schedule",
    "ScheduleSettings",
    "Scheduler",
    "Schedules",
]
