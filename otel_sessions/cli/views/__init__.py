"""Rows in, lines of text out. Nothing here reads, writes or asks for the time.

listing    sessions: the list, and the head of one
tree       a session's steps and calls
result     the rows of a query
grid       tables that fit
"""
