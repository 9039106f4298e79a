# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf completion: what a shell needs to complete our command lines, made from the tools' own parsers."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pyebpf.cli import exits, options

_MOST = 300  # functions of a target
_DESCRIPTION = 60  # characters


class Word(NamedTuple):
    """An option, or an argument without one.

    Attributes:
        flags: "-p", "--pid"; empty for an argument.
        text: what it is for, in a few words.
        value: what it takes, as the help calls it; "" for nothing.
        choices: all there are, if that is known.
        many: it can be given more than once.
    """

    flags: tuple[str, ...]
    text: str
    value: str
    choices: tuple[str, ...]
    many: bool

    @property
    def kind(self) -> str:
        """What completes its value: "target", "file", "folder", "command", or "" for nothing."""
        if self.value == "TARGET":
            return "target"
        if self.value in ("DIR", "FOLDER"):
            return "folder"
        if self.value == "CMD":
            return "command"
        return "file" if re.match("FILE|PATH|CONFIG", self.value) else ""


def parser_of(tool: str) -> argparse.ArgumentParser:
    """The parser of a tool's command line; also its manual page is made from it."""
    from pyebpf.cli.main import _tool

    run = _tool(tool)
    if run is None:
        raise LookupError(tool)
    try:
        run(options.PARSER)
    except options.Asked as asked:
        parser: argparse.ArgumentParser = asked.args[0]
        return parser
    raise LookupError(f"{tool} has no parser")


def words_of(parser: argparse.ArgumentParser) -> list[Word]:
    """What can be said on a command line."""
    found = []
    for action in parser._actions:
        if action.help == argparse.SUPPRESS:
            continue
        text = re.split(r"[;:(]|, ", (action.help or "") % {**vars(action), "prog": parser.prog})[0].strip()
        if len(text) > _DESCRIPTION:
            text = text[:_DESCRIPTION].rpartition(" ")[0]
        value = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
        many = isinstance(action, argparse._AppendAction) or action.nargs in ("+", "*")
        choices = tuple(map(str, action.choices or ()))
        found.append(Word(tuple(action.option_strings), text, value, choices, many))
    return found


def _tools() -> list[tuple[str, str, list[Word]]]:
    from pyebpf.cli.main import _GROUPS

    return [(name, text, words_of(parser_of(name))) for _, group in _GROUPS for name, text, _ in group]


_BASH = """\
# bash completion for pyebpf; made by: pyebpf completion bash
_pyebpf() {
    local line=${COMP_LINE:0:COMP_POINT} tool=${COMP_WORDS[1]} word last quote= one i
    local options= targets= files= folders= commands= values= choices= said=
    local -a words found
    read -ra words <<<"$line"
    word=${line##*[[:space:]]}
    [[ -n $word ]] && unset 'words[-1]'
    last=${words[-1]}
    COMPREPLY=()
    if ((${#words[@]} == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "@TOOLS@" -- "$word")
        return
    fi
    case $tool in
@CASES@
    *) return ;;
    esac
    case " $files$folders$commands$values " in
    *" $last "*)
        for one in $choices; do
            [[ $one == "$last="* ]] && mapfile -t COMPREPLY < <(compgen -W "${one//[=,]/ }" -- "$word") &&
                return
        done
        compopt -o filenames
        case " $files" in *" $last "*) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;; esac
        case " $folders" in *" $last "*) mapfile -t COMPREPLY < <(compgen -d -- "$word") ;; esac
        case " $commands" in *" $last "*) mapfile -t COMPREPLY < <(compgen -c -- "$word") ;; esac
        return ;;
    esac
    if [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
        return
    fi
    if [[ $word == [\\'\\"]* ]]; then
        quote=${word:0:1} word=${word:1}
    else
        word=${word//\\\\/}
    fi
    if [[ $targets == yes && $word == *:* ]]; then
        mapfile -t found < <("${COMP_WORDS[0]}" completion --functions "$word" 2>/dev/null)
        for ((i = 0; i < ${#found[@]}; i++)); do
            one=${found[i]}
            [[ -n $quote && $one == *[\\'\\"\\$\\`\\\\!]* ]] && continue  # a name may hold a command
            if [[ -z $quote ]]; then
                [[ $COMP_WORDBREAKS == *:* ]] && one=${one#"${word%"${word##*:}"}"}
                printf -v one %q "$one"
            fi
            COMPREPLY+=("$one")
        done
    elif [[ -n $targets ]]; then
        compopt -o filenames
        [[ $targets == yes ]] && compopt -o nospace
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    elif [[ -n $said ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$said" -- "$word")
    fi
}
complete -F _pyebpf pyebpf
"""


def bash() -> str:
    """The script for bash."""
    tools = _tools()
    cases = []
    for name, _, words in tools:
        flags = [word for word in words if word.flags]
        kinds = {word.kind for word in words if not word.flags}
        values = {
            "options": " ".join(flag for word in flags for flag in word.flags),
            "targets": "yes" if "target" in kinds else "files" if "file" in kinds else "",
            "said": " ".join(choice for word in words if not word.flags for choice in word.choices),
            **{
                f"{kind}s": "".join(f"{flag} " for word in flags if word.kind == kind for flag in word.flags)
                for kind in ("file", "folder", "command")
            },
            "values": "".join(f"{flag} " for word in flags if word.value and not word.kind for flag in word.flags),
            "choices": " ".join(
                f"{flag}={','.join(word.choices)}" for word in flags if word.choices for flag in word.flags
            ),
        }
        said = "\n        ".join(f'{key}="{value}"' for key, value in values.items() if value)
        cases.append(f"    {name})\n        {said} ;;")
    return _BASH.replace("@TOOLS@", " ".join(name for name, _, _ in tools)).replace("@CASES@", "\n".join(cases))


_ZSH = """\
#compdef pyebpf
# made by: pyebpf completion zsh
_pyebpf_target() {
    if [[ $PREFIX == *:* ]]; then
        local -a found
        found=(${(f)"$(_call_program functions pyebpf completion --functions ${(q)${(Q)PREFIX}})"})
        compadd -a found
    else
        _files -S ''
    fi
}
_pyebpf() {
    local -a tools
    tools=(
@TOOLS@
    )
    if ((CURRENT == 2)); then
        _describe tool tools
        return
    fi
    shift words
    ((CURRENT--))
    case $words[1] in
@CASES@
    esac
}
_pyebpf "$@"
"""
_ZSH_VALUES = {"target": "_pyebpf_target", "file": "_files", "folder": "_files -/", "command": "_cmdstring", "": " "}


def zsh() -> str:
    """The script for zsh."""

    def quoted(text: str) -> str:
        return re.sub(r"([\[\]:\\])", r"\\\1", text).replace("'", "'\\''")

    def spec(word: Word) -> str:
        value = f"({' '.join(word.choices)})" if word.choices else _ZSH_VALUES[word.kind]
        if not word.flags:
            return f"'{'*' if word.many else ''}:{quoted(word.text or word.value)}:{value}'"
        value = f":{quoted(word.value)}:{value}" if word.value else ""
        text = f"[{quoted(word.text)}]{value}'"
        if word.many:
            return "'*'" + (f"{{{','.join(word.flags)}}}'" if len(word.flags) > 1 else f"'{word.flags[0]}") + text
        if len(word.flags) > 1:
            return f"'({' '.join(word.flags)})'{{{','.join(word.flags)}}}'{text}"
        return f"'{word.flags[0]}{text}"

    tools = _tools()
    cases = [
        f"    {name})\n        _arguments -s \\\n            " + " \\\n            ".join(map(spec, words)) + " ;;"
        for name, _, words in tools
    ]
    return _ZSH.replace("@TOOLS@", "\n".join(f"        '{name}:{quoted(text)}'" for name, text, _ in tools)).replace(
        "@CASES@", "\n".join(cases)
    )


_FISH = """\
# fish completion for pyebpf; made by: pyebpf completion fish
function __pyebpf
    complete -c pyebpf -n "__fish_seen_subcommand_from $argv[1]" $argv[2..-1]
end
function __pyebpf_functions
    set -l word (commandline -ct)
    string match -q '*:*' -- $word; and pyebpf completion --functions (string unescape -- $word)
end"""


def fish() -> str:
    """The script for fish."""

    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    out = [_FISH]
    for name, text, words in _tools():
        out.append(f"complete -c pyebpf -n __fish_use_subcommand -f -a {name} -d {quoted(text)}")
        seen = f"__pyebpf {name}"
        for word in words:
            if word.flags:
                flags = " ".join(f"-l {flag[2:]}" if flag[:2] == "--" else f"-s {flag[1:]}" for flag in word.flags)
                value = ""
                if word.value:
                    value = " -r" if word.kind in ("file", "folder") else " -x"
                    value += f" -a {quoted(' '.join(word.choices))}" if word.choices else ""
                    value += " -a '(__fish_complete_command)'" if word.kind == "command" else ""
                out.append(f"{seen} {flags}{value} -d {quoted(word.text)}")
            elif word.kind == "target":
                out.append(f"{seen} -a '(__pyebpf_functions)'")
            elif word.choices:
                out.append(f"{seen} -f -a {quoted(' '.join(word.choices))}")
    return "\n".join(out) + "\n"


SHELLS: dict[str, tuple[Callable[[], str], str]] = {
    "bash": (bash, "share/bash-completion/completions/pyebpf"),
    "zsh": (zsh, "share/zsh/site-functions/_pyebpf"),
    "fish": (fish, "share/fish/vendor_completions.d/pyebpf.fish"),
}


def main(argv: Sequence[str]) -> int:
    parser = options.Parser(
        prog="pyebpf completion",
        description="Print completions for a shell: tools, options, files, and the functions of a program "
        "(pyebpf funccount ./server:main.<TAB>). The wheel has them in share/, where shells look if it is installed "
        "into the system; a virtual environment's are read by hand.",
        epilog="""\
examples:
  source <(pyebpf completion bash)                                  # now
  pyebpf completion bash > ~/.local/share/bash-completion/completions/pyebpf
  pyebpf completion zsh > ~/.zfunc/_pyebpf                          # with fpath+=~/.zfunc
  pyebpf completion fish > ~/.config/fish/completions/pyebpf.fish""",
        formatter_class=options.Formatter,
    )
    parser.add_argument("shell", choices=tuple(SHELLS), nargs="?", help="whose completions")
    parser.add_argument("--functions", metavar="TARGET", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.functions is not None:
        _print_functions(arguments.functions)
    elif arguments.shell is None:
        parser.error("which shell: bash, zsh or fish?")
    else:
        print(SHELLS[arguments.shell][0](), end="")
    return exits.TRACED


def _print_functions(target: str) -> None:
    """What a target could become, a line each: for a shell, which has no use for errors."""
    from pyebpf.errors import Error
    from pyebpf.target.resolve import resolve
    from pyebpf.target.spec import parse

    try:
        file = parse(target + "*").file
        head = target[: target.index(f"{file}:") + len(file) + 1]
        found = resolve([target + "*"], max_probes=sys.maxsize, returns=False).probes
    except (Error, ValueError):
        return
    names = sorted({probe.function.name for probe in found})
    print("".join(f"{head}{name}\n" for name in names[:_MOST] if name.isprintable()), end="")
