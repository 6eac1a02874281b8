"""Prepared statements of eight clients against a model of PostgreSQL that predicts each reply.

Law: the model knows nothing of pooling. The same steps hold at PostgreSQL itself, with a connection for each
client, which proves the model; through Howdah two servers do the work of eight.
"""
