"""Every way to log in, by the client's method, the form of the stored secret, the server's method, and TLS.

`python -m tests.conformance.login_matrix` plays all of it; `make test` a part.
"""
