"""Short ways to push requests on an account of what is owed, and to have them answered."""

from protocol.outstanding import Outstanding


def owed(*requests: str | int) -> Outstanding:
    """`d` is COPY data."""
    outstanding = Outstanding()
    for request in requests:
        sent(outstanding, request)
    return outstanding


def sent(outstanding: Outstanding, request: str | int) -> None:
    if request == "d":
        outstanding.data()
    else:
        outstanding.push(ord(request) if isinstance(request, str) else request)


def queue_of(outstanding: Outstanding) -> str:
    return "".join(chr(entry) for entry in outstanding.queue)


def replied(outstanding: Outstanding, tags_: str) -> Outstanding:
    for tag in tags_:
        if tag == "E":
            outstanding.error()
        else:
            outstanding.reply(ord(tag))
    return outstanding
