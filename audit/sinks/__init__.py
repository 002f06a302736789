"""Targets that the log's leaves are sent to as they are sealed: files, web addresses, syslog."""
