"""The two login conversations, as generators: what the rest of the pooler needs to drive them.

A driver sends what a conversation yields and gives it the next message, or runs the Derive it yields and
gives it the result, until it returns or raises. See conversation.py for the terms; client_login.py and
server_login.py for the two sides.
"""

from .client_login import LoginResult, client_login, made_up_salt
from .conversation import (
    AuthMethod,
    ChannelBinding,
    Conversation,
    LoginError,
    LoginFailed,
    LoginImpossible,
    Reply,
    ServerRefused,
    Step,
)
from .scram import Derive, ScramKeys, ScramVerifier
from .secret import Md5Secret, PlainSecret, Secret, is_empty, parse_secret
from .server_login import ALL_METHODS, Greeting, server_login

__all__ = [
    "ALL_METHODS",
    "AuthMethod",
    "ChannelBinding",
    "Conversation",
    "Derive",
    "Greeting",
    "LoginError",
    "LoginFailed",
    "LoginImpossible",
    "LoginResult",
    "Md5Secret",
    "PlainSecret",
    "Reply",
    "ScramKeys",
    "ScramVerifier",
    "Secret",
    "ServerRefused",
    "Step",
    "client_login",
    "is_empty",
    "made_up_salt",
    "parse_secret",
    "server_login",
]
