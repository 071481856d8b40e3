"""Artifacts: named things from elsewhere that the calls of a session may use."""

from __future__ import annotations

from skill_actors.files.artifacts.errors import ArtifactError
from skill_actors.files.artifacts.fetching import FetchRules
from skill_actors.files.artifacts.inputs import artifacts_prompt, references_in, with_paths
from skill_actors.files.artifacts.registry import Artifact, ArtifactLimits, Artifacts, artifacts_of

__all__ = [
    "Artifact",
    "ArtifactError",
    "ArtifactLimits",
    "Artifacts",
    "FetchRules",
    "artifacts_of",
    "artifacts_prompt",
    "references_in",
    "with_paths",
]
