"""Every form of a rule, and every mistake with its line."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.hba import AnyWhere, ClientCert, HostName, Method, Names, Network, Rule, RuleType
from config.hba_parser import parse_hba, read_hba
from config.problems import Problem, Severity


def parse(text: str) -> tuple[tuple[Rule, ...], list[Problem]]:
    rules, file = parse_hba(text.encode(), "rules")
    return rules, file.problems


def one(text: str) -> Rule:
    (rule,), problems = parse(text)
    assert problems == []
    return rule


def words(*names: str) -> Names:
    return Names(words=frozenset(names))


def test_a_rule_has_all_that_its_line_says() -> None:
    rule = one('hostssl app,"all" alice 10.0.0.0/8 scram-sha-256 clientcert=verify-full map=m clientname=DN')
    network = Network(ip_network("10.0.0.0/8"), 0xFF000000)
    assert rule == Rule(
        "rules",
        1,
        RuleType.HOSTSSL,
        words("app", "all"),
        words("alice"),
        network,
        Method.SCRAM_SHA_256,
        "m",
        ClientCert.VERIFY_FULL,
        "DN",
    )


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("local all all trust", RuleType.LOCAL),
        ("host all all all trust", RuleType.HOST),
        ("hostssl all all all trust", RuleType.HOSTSSL),
        ("hostnossl all all all trust", RuleType.HOSTNOSSL),
        ("hostnogssenc all all all trust", RuleType.HOST),
    ],
)
def test_types_of_connections(line: str, kind: RuleType) -> None:
    assert one(line).type is kind


@pytest.mark.parametrize(
    ("word", "method"),
    [(method.value, method) for method in Method if method not in (Method.PEER, Method.CERT)]
    + [("plain", Method.PASSWORD)],
)
def test_methods(word: str, method: Method) -> None:
    assert one(f"host all all all {word}").method is method


def test_peer_is_for_the_unix_socket_and_ident_there_another_word_for_it() -> None:
    assert one("local all all peer map=m").map == "m"
    assert one("local all all ident").method is Method.PEER


@pytest.mark.parametrize("kind", ["host", "hostssl"])
def test_cert_wants_a_certificate_in_the_name_of_the_user(kind: str) -> None:
    rule = one(f"{kind} all all all cert")
    assert (rule.method, rule.clientcert, rule.clientname) == (Method.CERT, ClientCert.VERIFY_FULL, "CN")


@pytest.mark.parametrize(
    ("databases", "names"),
    [
        ("all", Names(keywords=frozenset({"all"}))),
        ("a,b", words("a", "b")),
        (
            "sameuser,samerole,samegroup,replication",
            Names(keywords=frozenset({"sameuser", "samerole", "samegroup", "replication"})),
        ),
        ('"sameuser","+x"', words("sameuser", "+x")),
        ("pgbouncer", words("pgbouncer")),
        ("howdah,x", words("pgbouncer", "x")),
        ("All", words("All")),
    ],
)
def test_lists_of_databases(databases: str, names: Names) -> None:
    assert one(f"local {databases} all trust").databases == names


@pytest.mark.parametrize(
    ("users", "names"),
    [
        ("all", Names(keywords=frozenset({"all"}))),
        ("a,+g,b,+h", Names(words=frozenset("ab"), groups=frozenset("gh"))),
        ('"sameuser","all"', words("sameuser", "all")),
        ("pgbouncer,howdah", words("pgbouncer", "howdah")),
    ],
)
def test_lists_of_users(users: str, names: Names) -> None:
    assert one(f"local all {users} trust").users == names


def test_expressions_may_stand_in_both_lists_and_be_quoted() -> None:
    rule = one(r'local /^db\d$,x "/^a{1,2}$",y trust')
    assert [pattern.text for pattern in rule.databases.patterns] == [r"^db\d$"]
    assert [pattern.text for pattern in rule.users.patterns] == ["^a{1,2}$"]
    assert (set(rule.databases.words), set(rule.users.words)) == ({"x"}, {"y"})


@pytest.mark.parametrize(
    ("line", "needs"),
    [
        ("local all all trust", False),
        ("local sameuser all trust", False),
        ("local samerole all trust", True),
        ("local samegroup all trust", True),
        ("local all +g trust", True),
    ],
)
def test_a_rule_says_whether_it_needs_roles(line: str, needs: bool) -> None:
    assert one(line).needs_roles is needs


@pytest.mark.parametrize(
    ("address", "prefix"),
    [
        ("127.0.0.1/32", "127.0.0.1/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("10.0.0.0 255.0.0.0", "10.0.0.0/8"),
        ("ff20::/12", "ff20::/12"),
        ("::1/128", "::1/128"),
        ("::/0", "::/0"),
        ("fe80:: ffff::", "fe80::/16"),
    ],
)
def test_addresses(address: str, prefix: str) -> None:
    place = one(f"host all all {address} trust").place
    network = ip_network(prefix)
    assert place == Network(network, int(network.netmask))


@pytest.mark.parametrize("word", ["all", "samehost", "samenet"])
def test_addresses_by_keyword(word: str) -> None:
    assert one(f"host all all {word} trust").place is AnyWhere(word)
    assert one(f'host all all "{word}" trust').place == HostName(word)


@pytest.mark.parametrize("name", ["db.example.org", ".example.org", "localhost", "a-b_c", "1a", "x.y."])
def test_names_of_hosts(name: str) -> None:
    assert one(f"host all all {name} trust").place == HostName(name)


@pytest.mark.parametrize(
    ("address", "method", "message"),
    [
        ("10.1.0.0/8", "trust", "the rule lets nobody in; meant is perhaps 10.0.0.0/8"),
        ("192.168.1.1/0", "md5", "the rule lets nobody in; meant is perhaps 0.0.0.0/0"),
        ("::2 ffff::", "reject", "the rule refuses all of ::/16"),
    ],
)
def test_bits_behind_the_mask_are_pointed_out(address: str, method: str, message: str) -> None:
    (rule,), (problem,) = parse(f"\nhost all all {address} {method}")
    assert isinstance(rule.place, Network)
    assert not rule.place.is_exact
    assert (problem.line, problem.severity) == (2, Severity.WARNING)
    assert problem.message == f"the address has bits behind its mask, so {message}"


MISTAKES = [
    ("hostt all all all trust", 'unknown type of connection "hostt", did you mean "host"?'),
    ("host,local all all all trust", "expected one type, found 2"),
    ("hostgssenc all all all trust", "hostgssenc: GSSAPI encryption is not supported"),
    ("local", "ends before the databases"),
    ("local all", "ends before the users"),
    ("local all all", "ends before the method"),
    ("host all all", "ends before the address"),
    ("host all all all", "ends before the method"),
    ("host all all 10.0.0.0", "ends before the mask, or /bits behind the address"),
    ("host all all 10.0.0.0 trust", 'expected a mask behind the address, found "trust"'),
    ("host all all 10.0.0.0 ffff:: trust", "the address and its mask are of different kinds"),
    ("host all all 10.0.0.0 255.0.255.0 trust", 'the mask "255.0.255.0" has holes'),
    ("host all all 10.0.0.0/33 trust", '"/33" is no length of a mask: 0 to 32'),
    ("host all all ::/129 trust", '"/129" is no length of a mask: 0 to 128'),
    ("host all all 10.0.0.0/ trust", '"/" is no length of a mask: 0 to 32'),
    ("host all all 10.0.0.0/x trust", '"/x" is no length of a mask: 0 to 32'),
    ("host all all fe80::1%eth0/64 trust", 'address "fe80::1%eth0": zones are not supported'),
    ("host all all a.example.org/8 trust", '"a.example.org/8": the name of a host has no mask'),
    ("host all all 10.0.0 trust", '"10.0.0" is neither an address nor the name of a host'),
    ("host all all a..b trust", '"a..b" is neither an address nor the name of a host'),
    ("host all all all,samenet trust", "expected one address, found 2"),
    ('host all all "" trust', '"" is neither an address nor the name of a host'),
    ("local all all 127.0.0.1/32 trust", 'unknown method "127.0.0.1/32"'),
    ("local all all trsut", 'unknown method "trsut", did you mean "trust"?'),
    ("local all all trust,md5", "expected one method, found 2"),
    ("host all all all peer", "peer is only for the unix socket (local)"),
    ("host all all all ident", 'the method "ident" is not supported'),
    ("local all all cert", "cert needs TLS (hostssl)"),
    ("hostnossl all all all cert", "cert needs TLS (hostssl)"),
    ("local all sameuser trust", '"sameuser" is for databases; in quotes it is the name of a user'),
    ("local all replication trust", '"replication" is for databases; in quotes it is the name of a user'),
    ("local all + trust", "+ needs the name of a role"),
    ("local + all trust", "+ needs the name of a role"),
    ("local all /( trust", 'regular expression "(": a ( without its )'),
    ("local / all trust", 'regular expression "": is empty, which would fit every name'),
    ("local all all trust x", 'expected name=value, found "x"'),
    ("local all all trust map=", 'expected name=value, found "map="'),
    ("local all all peer mapp=x", 'unknown option "mapp", did you mean "map"?'),
    ("local all all peer map=x map=y", 'the option "map" stands here twice'),
    ("local all all md5 map=x", "map= is for peer, cert and clientcert=verify-full"),
    (
        "hostssl all all all md5 clientcert=verify-ca map=x",
        "map= is for peer, cert and clientcert=verify-full",
    ),
    ("hostssl all all all md5 clientcert=1", 'clientcert= is verify-ca or verify-full, not "1"'),
    ("hostssl all all all cert clientcert=verify-ca", "with cert, clientcert= can only be verify-full"),
    ("host all all all md5 clientcert=verify-ca", "clientcert= is for hostssl"),
    ("hostssl all all all md5 clientname=DN", "clientname= is for cert and clientcert=verify-full"),
    ("hostssl all all all cert clientname=dn", 'clientname= is CN or DN, not "dn"'),
    ("host all all all cert clientname=DN", "clientname= is for hostssl"),
    ("local all all ldap ldapserver=x", 'the method "ldap" is not supported'),
    *(
        (f"host all all all {word}", f'the method "{word}" is not supported')
        for word in ("gss", "sspi", "pam", "bsd", "radius", "oauth", "any", "hba")
    ),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES)
def test_a_mistake_is_told_with_its_line_and_lets_nobody_in(line: str, message: str) -> None:
    rules, problems = parse(f"# rules\nlocal a a trust\n{line}\nlocal b b trust\n")
    assert [rule.line for rule in rules] == [2, 4]
    assert [str(problem) for problem in problems] == [f"rules:3: auth_hba_file: {message}"]


def test_a_file_that_is_not_there_is_a_problem() -> None:
    rules, file = read_hba("/none/such")
    assert rules == ()
    assert [str(problem) for problem in file.problems] == [
        "/none/such: auth_hba_file: cannot be read: No such file or directory"
    ]


_KINDS = ("local", "host", "hostssl", "hostnossl", "include", "@x", "#")
_NAMES = ("all", "sameuser", "samerole", "replication", "a", "+g", "/^x$", "/(", '"a b"', ",")
_PLACES = ("10.0.0.0/8", "10.1.1.1/8", "::1", "255.0.0.0", "samenet", ".example.org")
_METHODS = ("trust", "reject", "md5", "peer", "cert")
_OPTIONS = ("map=m", "clientcert=verify-full", "clientname=DN", "\\")
_WORDS = st.sampled_from((*_KINDS, *_NAMES, *_PLACES, *_METHODS, *_OPTIONS))


@given(st.lists(_WORDS, max_size=9).map(" ".join) | st.text(max_size=60))
def test_a_text_gives_a_rule_or_a_problem_for_each_line_and_raises_nothing(line: str) -> None:
    text = line.replace("\n", " ")
    rules, problems = parse(text)
    errors = [problem for problem in problems if problem.severity is Severity.ERROR]
    assert len(rules) <= 1
    assert not (rules and errors)
    assert rules or errors or not text.partition("#")[0].strip(" \t\r\v\f\\")
