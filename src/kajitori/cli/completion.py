"""Print the completion script of a shell: `source <(kaji completion bash)`."""

from __future__ import annotations

import argparse

from kajitori.cli import COMMANDS
from kajitori.cli.keys import VERBS as KEY_VERBS
from kajitori.cli.rollout import VERBS

_BASH = """_kaji() {
  local current=${COMP_WORDS[COMP_CWORD]}
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "%(commands)s" -- "$current"))
  elif [ "$COMP_CWORD" -gt 1 ]; then
    COMPREPLY=($(compgen -W "$(kaji completion --candidates "${COMP_WORDS[@]:1}" 2>/dev/null)" -- "$current"))
  fi
}
complete -o default -F _kaji kaji
"""
_ZSH = """#compdef kaji
_kaji() {
  if (( CURRENT == 2 )); then
    compadd -- %(commands)s
  else
    compadd -- ${(f)"$(kaji completion --candidates ${words[2,-1]} 2>/dev/null)"}
    _files
  fi
}
compdef _kaji kaji
"""
_FISH = """complete -c kaji -n __fish_use_subcommand -f -a "%(commands)s"
complete -c kaji -n "not __fish_use_subcommand" -a "(kaji completion --candidates (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)"
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", nargs="?", choices=sorted(_SCRIPTS))
    # What the scripts ask when Tab is pressed: the words typed so far.
    parser.add_argument("--candidates", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    if options.candidates is not None:
        print("\n".join(candidates(options.candidates)))
        return 0
    if options.shell is None:
        from kajitori.base.errors import UsageError

        raise UsageError("which shell?", hint="kaji completion bash|zsh|fish")
    print(_SCRIPTS[options.shell] % {"commands": " ".join(COMMANDS)}, end="")
    return 0


def candidates(words: list[str]) -> list[str]:
    """What may follow the words typed so far; the last one is incomplete. Asks the cluster for names."""
    from kajitori.base.errors import KajitoriError
    from kajitori.cli import connection

    command, *typed = words
    if command == "rollout":
        if len(typed) <= 1:
            return list(VERBS)
        typed = typed[1:]
    elif command == "keys":
        return list(KEY_VERBS) if len(typed) <= 1 else []
    elif command not in ("get", "describe", "delete", "logs", "explain", "chat"):
        return []
    try:
        cluster = connection.open_cluster(argparse.Namespace())
        before = [word for word in typed[:-1] if not word.startswith("-")]
        if command == "logs":
            return cluster.names("pods")
        if command == "chat":
            return cluster.model_names()
        if not before:
            return cluster.resource_names()
        return cluster.names(before[0])
    except KajitoriError:
        return []
