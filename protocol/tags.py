"""Numbers of the wire: message tags, request codes, transaction statuses.

Names are those of the PostgreSQL manual, "Message Formats". Tags are integers because iterating over bytes
gives integers. Many tags mean one thing from a frontend and another from a backend: a tag alone names no
message.
"""

from typing import Final

# Frontend messages.
BIND: Final = 0x42  # B
CLOSE: Final = 0x43  # C
COPY_DATA: Final = 0x64  # d, both directions
COPY_DONE: Final = 0x63  # c, both directions
COPY_FAIL: Final = 0x66  # f
DESCRIBE: Final = 0x44  # D
EXECUTE: Final = 0x45  # E
FLUSH: Final = 0x48  # H
FUNCTION_CALL: Final = 0x46  # F
PARSE: Final = 0x50  # P
PASSWORD: Final = 0x70  # p: PasswordMessage, SASLInitialResponse, SASLResponse, GSSResponse
QUERY: Final = 0x51  # Q
SYNC: Final = 0x53  # S
TERMINATE: Final = 0x58  # X

# Backend messages.
AUTHENTICATION: Final = 0x52  # R
BACKEND_KEY_DATA: Final = 0x4B  # K
BIND_COMPLETE: Final = 0x32  # 2
CLOSE_COMPLETE: Final = 0x33  # 3
COMMAND_COMPLETE: Final = 0x43  # C
COPY_IN_RESPONSE: Final = 0x47  # G
COPY_OUT_RESPONSE: Final = 0x48  # H
COPY_BOTH_RESPONSE: Final = 0x57  # W
DATA_ROW: Final = 0x44  # D
EMPTY_QUERY_RESPONSE: Final = 0x49  # I
ERROR_RESPONSE: Final = 0x45  # E
FUNCTION_CALL_RESPONSE: Final = 0x56  # V
NEGOTIATE_PROTOCOL_VERSION: Final = 0x76  # v
NO_DATA: Final = 0x6E  # n
NOTICE_RESPONSE: Final = 0x4E  # N
NOTIFICATION_RESPONSE: Final = 0x41  # A
PARAMETER_DESCRIPTION: Final = 0x74  # t
PARAMETER_STATUS: Final = 0x53  # S
PARSE_COMPLETE: Final = 0x31  # 1
PORTAL_SUSPENDED: Final = 0x73  # s
READY_FOR_QUERY: Final = 0x5A  # Z
ROW_DESCRIPTION: Final = 0x54  # T

# What the packets without a tag carry in its place.
PROTOCOL_3_0: Final = 196608
PROTOCOL_3_2: Final = 196610
CANCEL_REQUEST: Final = 80877102
SSL_REQUEST: Final = 80877103
GSSENC_REQUEST: Final = 80877104

# Transaction status of ReadyForQuery. BUSY is ours: something was written and no ReadyForQuery came yet.
STATUS_BUSY: Final = 0
STATUS_IDLE: Final = 0x49  # I
STATUS_IN_TRANSACTION: Final = 0x54  # T
STATUS_FAILED: Final = 0x45  # E
