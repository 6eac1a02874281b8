"""The HTTP side of a pooler, as Prometheus and health checks see it.

Law: plain requests; what is not there is an answer, too.
"""

import json
import urllib.error
import urllib.request

from tests.support.pooler import Pooler


class Page:
    """The HTTP side of one pooler."""

    def __init__(self, port: int) -> None:
        self.port = port

    def settings(self) -> dict[str, str | int]:
        """What makes a pooler answer here."""
        return {"metrics_addr": "127.0.0.1", "metrics_port": self.port}

    def of(self, pooler: Pooler) -> Pooler:
        """The pooler, once it answers: its sockets for clients are open a moment earlier."""
        pooler.wait_for_log("process up")
        return pooler

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def value(self, metric: str, /, **labels: str) -> float:
        """One sample; the labels must all be there, others may be."""
        _, text = self.get("/metrics")
        wanted = [f"{key}={json.dumps(value)}" for key, value in labels.items()]
        lines = [line for line in text.splitlines() if line.startswith((metric + "{", metric + " "))]
        (line,) = (line for line in lines if all(label in line for label in wanted))
        return float(line.rsplit(" ", 1)[1])
