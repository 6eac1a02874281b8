from protocol import tags

FRONTEND = {
    "BIND": "B",
    "CLOSE": "C",
    "COPY_DATA": "d",
    "COPY_DONE": "c",
    "COPY_FAIL": "f",
    "DESCRIBE": "D",
    "EXECUTE": "E",
    "FLUSH": "H",
    "FUNCTION_CALL": "F",
    "PARSE": "P",
    "PASSWORD": "p",
    "QUERY": "Q",
    "SYNC": "S",
    "TERMINATE": "X",
}
BACKEND = {
    "AUTHENTICATION": "R",
    "BACKEND_KEY_DATA": "K",
    "BIND_COMPLETE": "2",
    "CLOSE_COMPLETE": "3",
    "COMMAND_COMPLETE": "C",
    "COPY_BOTH_RESPONSE": "W",
    "COPY_DATA": "d",
    "COPY_DONE": "c",
    "COPY_IN_RESPONSE": "G",
    "COPY_OUT_RESPONSE": "H",
    "DATA_ROW": "D",
    "EMPTY_QUERY_RESPONSE": "I",
    "ERROR_RESPONSE": "E",
    "FUNCTION_CALL_RESPONSE": "V",
    "NEGOTIATE_PROTOCOL_VERSION": "v",
    "NOTICE_RESPONSE": "N",
    "NOTIFICATION_RESPONSE": "A",
    "NO_DATA": "n",
    "PARAMETER_DESCRIPTION": "t",
    "PARAMETER_STATUS": "S",
    "PARSE_COMPLETE": "1",
    "PORTAL_SUSPENDED": "s",
    "READY_FOR_QUERY": "Z",
    "ROW_DESCRIPTION": "T",
}


def test_every_tag_is_the_manuals_letter() -> None:
    for name, letter in (FRONTEND | BACKEND).items():
        assert getattr(tags, name) == ord(letter), name


def test_the_request_codes_are_versions_nobody_will_ever_speak() -> None:
    assert tags.CANCEL_REQUEST == 1234 << 16 | 5678
    assert tags.SSL_REQUEST == 1234 << 16 | 5679
    assert tags.GSSENC_REQUEST == 1234 << 16 | 5680


def test_versions_are_major_and_minor_in_one_number() -> None:
    assert tags.PROTOCOL_3_0 == 3 << 16
    assert tags.PROTOCOL_3_2 == 3 << 16 | 2


def test_busy_is_no_status_a_server_can_send() -> None:
    sent = {tags.STATUS_IDLE, tags.STATUS_IN_TRANSACTION, tags.STATUS_FAILED}

    assert sent == set(b"ITE")
    assert tags.STATUS_BUSY not in sent
