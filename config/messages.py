"""Turn pydantic's complaints into sentences that name the setting's own vocabulary."""

from collections.abc import Iterable

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from .problems import did_you_mean


def message_of(error: ErrorDetails, model: type[BaseModel]) -> str:
    """Say what is wrong with a key of `model`, without repeating a value that might be secret."""
    if error["type"] == "extra_forbidden":
        return "unknown setting" + did_you_mean(str(error["loc"][-1]), spellings(model))
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"] in ("model_type", "dict_type"):
        return "must be a table of settings"
    return error["msg"].replace("Input should be", "must be", 1)


def spellings(model: type[BaseModel]) -> Iterable[str]:
    """Return every name under which the model's keys may be written."""
    return [*model.model_fields, *getattr(model, "aliases", {})]
