"""ErrorResponse and NoticeResponse, which are laid out alike.

Nothing in them is sure to be there: a hostile or old server may leave out even the SQLSTATE, so every field
reads as empty when it is missing. Source: PostgreSQL manual, "Error and Notice Message Fields".
"""

from dataclasses import dataclass
from typing import ClassVar, Self

from . import tags
from .errors import MalformedMessage
from .messages import Message
from .wire import Reader, put_string


@dataclass(frozen=True, slots=True)
class Report(Message):
    """Fields by their code, one character each."""

    fields: dict[str, bytes]

    @property
    def severity(self) -> str:
        """ERROR, FATAL, ... untranslated where the server gives it so; "" if absent."""
        return self._text("V") or self._text("S")

    @property
    def sqlstate(self) -> str:
        """The SQLSTATE; "" if absent."""
        return self._text("C")

    @property
    def message(self) -> str:
        """The primary text, bytes that are no UTF-8 shown as escapes; "" if absent."""
        return self._text("M")

    def _text(self, code: str) -> str:
        return self.fields.get(code, b"").decode("utf-8", "backslashreplace")

    @classmethod
    def make(
        cls, severity: str, sqlstate: str, message: str, detail: str | None = None, hint: str | None = None
    ) -> Self:
        """Build a report as PostgreSQL orders its fields. Texts are sent as UTF-8."""
        texts = {"S": severity, "V": severity, "C": sqlstate, "M": message, "D": detail, "H": hint}
        return cls(
            {
                code: text.encode("utf-8", "backslashreplace")
                for code, text in texts.items()
                if text is not None
            }
        )

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        fields: dict[str, bytes] = {}
        while code := reader.byte():
            fields[chr(code)] = reader.string()
        return cls(fields)

    def _write(self, buffer: bytearray) -> None:
        for code, value in self.fields.items():
            if len(code) != 1 or not 0 < ord(code) < 0x100:
                raise MalformedMessage(f"field code {code!r}")
            buffer.append(ord(code))
            put_string(buffer, value)
        buffer.append(0)


@dataclass(frozen=True, slots=True)
class ErrorResponse(Report):
    """Something failed."""

    tag: ClassVar[int] = tags.ERROR_RESPONSE


@dataclass(frozen=True, slots=True)
class NoticeResponse(Report):
    """Something is worth knowing."""

    tag: ClassVar[int] = tags.NOTICE_RESPONSE
