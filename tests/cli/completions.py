#!/usr/bin/env python3
"""Every option that `hypura COMMAND --help` lists is offered by the completions of bash, and of fish and zsh where these
are installed; a shell that is not installed at least has the option in its file.

usage: completions.py HYPURA COMPLETIONS_DIRECTORY
"""
import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import sys
import time
import unittest

HYPURA, FOLDER = sys.argv[1], pathlib.Path(sys.argv[2])


def help_of(*command):
    return subprocess.run([HYPURA, *command, "--help"], capture_output=True, text=True, timeout=60).stdout


def long_options(text):
    return set(re.findall(r"^ +(?:-\w, *)?(--[a-z-]+)", text, re.MULTILINE)) - {"--help"}


COMMANDS = {name: long_options(help_of(name))
            for name in re.findall(r"^  ([a-z-]+) ", help_of().partition("SUBCOMMANDS")[2], re.MULTILINE)}


def bash(line):
    words = line.split(" ")
    script = (f"source {FOLDER}/hypura.bash; COMP_WORDS=({' '.join(words[:-1])} '{words[-1]}'); "
              f"COMP_CWORD={len(words) - 1}; _hypura 2>/dev/null; printf '%s\\n' \"${{COMPREPLY[@]}}\"")
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    return set(ran.stdout.split())


def fish(line):
    script = f"source {FOLDER}/hypura.fish; complete -C '{line}'"
    ran = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, timeout=60)
    return {entry.split("\t")[0] for entry in ran.stdout.splitlines()}


class Zsh:
    """zsh completes only at its prompt, so it is driven through a pseudo-terminal."""

    def __init__(self):
        self.child, self.terminal = pty.fork()
        if self.child == 0:
            os.execvpe("zsh", ["zsh", "-f", "-i"], {**os.environ, "TERM": "dumb", "PS1": "$ ", "COLUMNS": "200"})
        self.read(1)
        self.send(f"autoload -Uz compinit; compinit -u -D; functions[_hypura]=\"$(<{FOLDER}/hypura.zsh)\"; "
                  f"compdef _hypura hypura; LISTMAX=1000; unsetopt listbeep; echo ready\n")
        self.read(3, "ready\r")

    def send(self, text):
        os.write(self.terminal, text.encode())

    def read(self, seconds, until=None):
        seen, deadline = "", time.monotonic() + seconds
        while time.monotonic() < deadline and not (until and until in seen):
            if select.select([self.terminal], [], [], 0.2)[0]:
                seen += os.read(self.terminal, 65536).decode(errors="replace")
        return seen

    def offers(self, line):
        self.send(line + "\t")
        text = self.read(1.5)
        self.send("\x15")  # erase the line
        self.read(0.3)
        return set(re.findall(r"--?[a-z][a-z-]*|\b[a-z][a-z-]+\b", text))

    def close(self):
        os.close(self.terminal)
        os.waitpid(self.child, 0)


class Completions(unittest.TestCase):
    def check(self, offers):
        self.assertTrue(COMMANDS)
        self.assertEqual(set(COMMANDS) - offers("hypura "), set())
        for command, options in COMMANDS.items():
            with self.subTest(command=command):
                self.assertEqual(options - offers(f"hypura {command} --"), set(), "options that are not offered")

    def test_bash(self):
        self.check(bash)

    def test_fish(self):
        if shutil.which("fish"):
            return self.check(fish)
        text = (FOLDER / "hypura.fish").read_text()
        for option in set().union(*COMMANDS.values()):
            self.assertIn(f"-l {option[2:]} ", text)

    def test_zsh(self):
        if not shutil.which("zsh"):
            text = (FOLDER / "hypura.zsh").read_text()
            for option in set().union(*COMMANDS.values()):
                self.assertRegex(text, re.escape(option) + r"[\[}]")
            return
        shell = Zsh()
        try:
            self.check(shell.offers)
        finally:
            shell.close()


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
