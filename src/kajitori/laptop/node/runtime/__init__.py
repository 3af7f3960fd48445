"""The runner: starts, reaps and logs the processes of one node's containers, and answers the agent on a socket.

It uses the standard library only and is started without site packages, so that it costs about 11 MB and cannot be
broken by what a user installs. Nothing here knows Kubernetes: a container is a command with an environment, mounts
and a log file.
"""
