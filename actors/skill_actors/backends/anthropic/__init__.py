"""Anthropic's hosted execution: code, skills and files in containers of the API, and helpers to call it yourself."""

from .client import HostedClient
from .container import CODE_EXECUTION, beta_headers, code_execution_tool, container_config, with_container_id
from .downloads import Downloads, download_files
from .errors import HOSTED_ERRORS, HostedError
from .files_api import DownloadedFile, FilesApi, HostedFile
from .messages import HostedResponse, build_request, complete, parse_response
from .names import fresh_name, safe_name
from .results import CreatedFile, created_files, extract_file_ids, extract_text, tool_failures
from .skills_api import SkillInfo, SkillsApi, VersionInfo
from .specs import MAX_SKILLS, HostedSkill, hosted_skills, is_hosted, parse_hosted
from .turn import MAX_PAUSES, HostedTurn, HostedTurnError, continue_, run_turn
from .upload_state import UploadStateError
from .uploads import Cleaned, SkillUploads

__all__ = [
    "CODE_EXECUTION",
    "HOSTED_ERRORS",
    "MAX_PAUSES",
    "MAX_SKILLS",
    "Cleaned",
    "CreatedFile",
    "DownloadedFile",
    "Downloads",
    "FilesApi",
    "HostedClient",
    "HostedError",
    "HostedFile",
    "HostedResponse",
    "HostedSkill",
    "HostedTurn",
    "HostedTurnError",
    "SkillInfo",
    "SkillUploads",
    "SkillsApi",
    "UploadStateError",
    "VersionInfo",
    "beta_headers",
    "build_request",
    "code_execution_tool",
    "complete",
    "container_config",
    "continue_",
    "created_files",
    "download_files",
    "extract_file_ids",
    "extract_text",
    "fresh_name",
    "hosted_skills",
    "is_hosted",
    "parse_hosted",
    "parse_response",
    "run_turn",
    "safe_name",
    "tool_failures",
    "with_container_id",
]
