"""Approvals: calls of tools that wait for somebody's word, bound to exactly what was shown.

`request` is what a call would run as, and its hash; `binding` looks at a call as it would run, with `named_files`;
`desk` writes down that somebody is asked, waits, and takes the first answer; `decisions` reads answers, `outcomes` says
what becomes of them; `standing` keeps what is allowed for a whole session. Who runs calls puts these together:
`toolrun`, and `consent` beside it.
"""

from skill_actors.sessions.approvals.decisions import Approver, Decision
from skill_actors.sessions.approvals.desk import ApprovalDesk, DeskLimits
from skill_actors.sessions.approvals.outcomes import Answer
from skill_actors.sessions.approvals.request import ApprovalRequest, NamedFile

__all__ = ["Answer", "ApprovalDesk", "ApprovalRequest", "Approver", "Decision", "DeskLimits", "NamedFile"]
