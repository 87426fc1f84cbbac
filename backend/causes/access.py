"""A model that is given only to those who have accepted its licence."""

from __future__ import annotations

from typing import Any

from ..wire import Failure, FailureKind
from .case import Case


def no_access(case: Case) -> Failure | None:
    """Errors of huggingface_hub: a gated repository, a token that is missing or not accepted."""
    is_gated = case.is_a("GatedRepoError") or case.says(r"gated repo")
    if not is_gated and not case.is_a("LocalTokenNotFoundError") and not _is_unauthorised(case):
        return None
    name = getattr(case.error, "repo_id", None)
    model = f"The model {name}" if isinstance(name, str) and name else "This model"
    page = f" ({name} on huggingface.co)" if isinstance(name, str) and name else ""
    if _had_token(case):
        return case.failure(
            FailureKind.ACCESS_DENIED,
            f"{model} is given only to those who have accepted its licence, and the owner of this token has not.",
            f"Sign in as the token's owner and accept the licence on the model's page{page}, then try again.",
        )
    return case.failure(
        FailureKind.ACCESS_DENIED,
        f"{model} is given only to those who have accepted its licence, and there is no token that says who asks.",
        f"Accept the licence on the model's page{page}, make a token in your settings there, and set HF_TOKEN to it.",
    )


def _is_unauthorised(case: Case) -> bool:
    """The hub says "not found" of what a stranger may not see."""
    response = _response(case)
    return case.is_a("RepositoryNotFoundError") and getattr(response, "status_code", None) in (401, 403)


def _had_token(case: Case) -> bool:
    headers = getattr(getattr(_response(case), "request", None), "headers", {})
    return bool(headers.get("authorization"))


def _response(case: Case) -> Any:
    return getattr(case.error, "response", None)
