"""`penstock plugins`, and how the command line says what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from penstock.cli import main
from penstock.cli.from_plugins import INSTALLABLE
from penstock.cli.group import COMMANDS
from penstock.cli.subcommands import SubcommandGroup


def test_table_lists_plugins(site, shell):
    """The table has a line for each plugin with version, status and offers; with all well the status is 0."""
    site.add("penstock-tape", version="0.3")
    done = shell("plugins")
    (line,) = [line.split() for line in done.stdout.splitlines() if line.startswith("penstock-tape")]
    assert line == ["penstock-tape", "0.3", "ok", "store", "tape"]
    assert (done.returncode, done.stderr) == (0, "")


def test_table_names_what_is_broken(site, shell):
    """A broken plugin is in the table with its reason, the others too, and the status is 1."""
    site.add("penstock-bad", "print('chatter')\nraise RuntimeError('no \\033[31mlicence')")
    site.add("penstock-tape")
    done = shell("plugins")
    assert done.returncode == 1
    assert "raised RuntimeError: no \\x1b[31mlicence" in done.stdout
    assert "store tape" in done.stdout
    assert "chatter" not in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_incompatible_and_left_out_are_no_failure(site, shell):
    """A plugin for another contract, or one left out, is listed and does not make the status 1."""
    site.add("penstock-new", group="penstock.v2")
    site.add("penstock-out")
    done = shell("plugins", PENSTOCK_WITHOUT=f"penstock-out,{shell.environment['PENSTOCK_WITHOUT']}")
    assert done.returncode == 0
    assert "incompatible" in done.stdout
    assert "left out" in done.stdout


def test_why_shows_components_and_tracebacks(site, shell):
    """With --why there is the path of each component, and the whole traceback of what failed."""
    site.add("penstock-bad", "def deep():\n    raise RuntimeError('inside')\ndeep()")
    site.add("penstock-tape")
    done = shell("plugins", "--why")
    assert "penstock_tape.store:GoodStore" in done.stdout
    assert "keeps things" in done.stdout
    assert "Traceback (most recent call last)" in done.stdout
    assert "in deep" in done.stdout


def test_ambiguous_names_are_in_the_table(site, shell):
    """Names that two plugins offer are listed with what to write."""
    site.add("acme-npy")
    hooks = "@hookimpl\ndef penstock_stores(): return [Component('acme-npy', 'a.b:C')]"
    site.add("other", hooks)
    assert (
        "store 'acme-npy' is offered by 2 plugins: write acme-npy:acme-npy or other:acme-npy" in shell("plugins").stdout
    )


def test_json_is_whole(site, shell):
    """The JSON has everything that the reports have, and nothing else is on stdout, whatever plugins print."""
    site.add("penstock-bad", "print('chatter')\nraise RuntimeError('x')")
    site.add("penstock-tape")
    done = shell("plugins", "--json")
    answer = json.loads(done.stdout)
    plugins = {plugin["name"]: plugin for plugin in answer["plugins"]}
    assert answer["contract"] == "v1"
    assert plugins["penstock-bad"]["status"] == "broken"
    assert "RuntimeError: x" in plugins["penstock-bad"]["traceback"]
    assert plugins["penstock-tape"]["components"]["store"][0]["path"] == "penstock_tape.store:GoodStore"
    assert done.returncode == 1


def test_version(shell):
    """--version prints the name and the version."""
    done = shell("--version")
    assert done.stdout.startswith("penstock ")
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["plugin"], "did you mean 'plugins'?"), (["plugins", "--whi"], "--why"), (["--bug"], "--bug")],
)
def test_wrong_usage(shell, arguments, said):
    """A command line that makes no sense ends with status 2 and what was meant."""
    done = shell(*arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_help_lists_the_commands_that_are_there(shell):
    """The help has a line for each command, and each of them can be loaded."""
    done = shell("--help")
    assert done.returncode == 0
    assert "  plugins  " in done.stdout


@pytest.fixture
def run_failing(site, monkeypatch, capsys):
    """Give what runs a command that executes this line, and returns status and stderr."""

    def run(line: str, *options: str) -> tuple[int, str]:
        site.write("failing_command.py", f"import click\nfrom penstock.errors import *\n"
                   f"@click.command()\ndef fail():\n    {line}\n")  # fmt: skip
        monkeypatch.setitem(COMMANDS, "fail", "failing_command:fail")
        with pytest.raises(SystemExit) as caught:
            main([*options, "fail"])
        sys.modules.pop("failing_command")
        return int(str(caught.value.code)), capsys.readouterr().err.lstrip("\n")  # click ends the line of a ^C

    return run


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("raise ConfigError('$.camera.rate: 7 Hz\\n  is odd')", "$.camera.rate: 7 Hz is odd"),
        ("raise ConfigError('$.a: is missing\\n$: unknown key')", "$.a: is missing; $: unknown key"),
        ("open('/no/such/file.toml')", "/no/such/file.toml: No such file or directory"),
        ("raise OSError('bare')", "bare"),
        ("raise EndOfSource('camera 3 is done')", "camera 3 is done"),
        ("raise RunError()", "RunError"),
        ("raise StoreError('bad \\x1b[2J name')", "bad \\x1b[2J name"),
        ("e = WiringError('a'); e.add_note('seen by b'); raise e", "a (seen by b)"),
    ],
)
def test_error_is_one_sentence(run_failing, line, said):
    """An error of penstock or the operating system is one line on stderr, without traceback, and status 1."""
    assert run_failing(line) == (1, f"penstock: error: {said}\n")


def test_debug_shows_the_traceback(run_failing):
    """With --debug the traceback comes before the sentence."""
    status, err = run_failing("raise ConfigError('wrong')", "--debug")
    assert status == 1
    assert "Traceback" in err
    assert "in fail" in err
    assert err.endswith("penstock: error: wrong\n")


def test_interrupt_is_status_130(run_failing):
    """Ctrl-C in a command ends it with one line and the status that shells expect."""
    assert run_failing("raise KeyboardInterrupt") == (130, "penstock: error: interrupted\n")


def test_fault_of_our_own_is_not_hidden(site, monkeypatch):
    """An exception that is not an error of penstock is a fault, and comes out whole."""
    site.write("faulty_command.py", "import click\n@click.command()\ndef fail(): {}['x']\n")
    monkeypatch.setitem(COMMANDS, "fail", "faulty_command:fail")
    with pytest.raises(KeyError):
        main(["fail"])


COMMAND = """
import click
from penstock.errors import StoreError

@click.command(short_help="Wind it.")
@click.argument("speed", type=int)
def tape(speed):
    if speed > 9:
        raise StoreError("too fast")
    click.echo(f"winds at {speed}")
"""


def add_command(site, name, source, command="tape", attribute="tape"):
    """Install a distribution that brings a command, and nothing else."""
    package = name.replace("-", "_")
    site.write(f"{package}.py", source)
    site.metadata(name, "0.3", f"[penstock.commands]\n{command} = {package}:{attribute}\n")


def test_command_of_a_plugin_is_run_and_listed(site, shell):
    """A plugin's command runs under its name, is in the help and among the names that are close; errors are ours."""
    add_command(site, "penstock-tape", COMMAND)
    assert shell("tape", "3").stdout == "winds at 3\n"
    assert (shell("tape", "10").returncode, shell("tape", "10").stderr) == (1, "penstock: error: too fast\n")
    assert "  tape      Wind it.\n" in shell("--help").stdout
    assert "did you mean 'tape'?" in shell("tapes").stderr
    left_out = shell("tape", "3", PENSTOCK_WITHOUT=f"{shell.environment['PENSTOCK_WITHOUT']},penstock_tape")
    assert left_out.returncode == 2
    assert "tape" not in shell("--help", PENSTOCK_WITHOUT="*").stdout


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise RuntimeError('no\\n licence')", "raised RuntimeError: no licence"),
        ("import sys; sys.exit(3)", "raised SystemExit: 3"),
        ("import nothing_of_this_name", "raised ModuleNotFoundError: No module named"),
        ("def tape(): pass", "is a function, not a click.Command"),
    ],
)
def test_command_that_cannot_be_loaded_hinders_no_other(site, shell, source, said):
    """A command that fails to load is reported when it is used, and in the help; all others work."""
    add_command(site, "penstock-tape", source)
    for arguments in (("tape",), ("tape", "--any", "thing"), ("tape", "--help")):
        done = shell(*arguments)
        assert done.returncode == 1
        assert "command 'tape' of penstock-tape 0.3" in done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    listed = shell("--help")
    assert listed.returncode == 0
    assert "tape      (cannot be loaded)" in listed.stdout
    assert shell("plugins").returncode == 0


def test_names_that_clash_are_said(site, shell):
    """A command of penstock's own stays, one that two plugins bring is neither's; the table says both."""
    add_command(site, "acme-run", COMMAND, command="run")
    add_command(site, "acme-tape", COMMAND)
    add_command(site, "other-tape", COMMAND)
    assert "Wind it" not in shell("run", "--help").stdout
    said = "command 'tape' is brought by acme-tape and other-tape; uninstall one"
    assert said in shell("tape", "1").stderr
    listed = shell("plugins").stdout
    assert said in listed
    assert "command 'run' of acme-run is not used" in listed


def test_own_commands_do_not_look_for_others(shell):
    """Penstock's own commands start without a look at what plugins bring."""
    check = "from penstock.cli import main; import sys, atexit; atexit.register(lambda: print("
    check += "'penstock.cli.from_plugins' in sys.modules)); main()"
    done = subprocess.run(
        [sys.executable, "-c", check, "validate", "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_commands_that_plugins_of_ours_bring_are_named(shell):
    """Who types a command before its plugin is installed is told what to install; each of our plugins' is known."""
    brought = {}
    for file in sorted((Path(__file__).parents[2] / "plugins").glob("*/pyproject.toml")):
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        for name in project.get("entry-points", {}).get("penstock.commands", {}):
            brought[name] = project["name"]
    assert brought == INSTALLABLE
    for name, distribution in brought.items():
        done = shell(name, "anything", PENSTOCK_WITHOUT="*")
        assert done.returncode == 2
        assert f"there is no command '{name}'; `pip install {distribution}` brings it" in done.stderr


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_list_of_commands_has_whole_sentences(name):
    """The first sentence of each command's help fits into its line of `penstock --help`."""
    from penstock.cli.group import cli

    command = cli.get_command(click.Context(cli), name)
    assert not command.get_short_help_str(60).endswith("...")


@pytest.mark.parametrize(
    ("name", "words"), [("exprot", "did you mean 'export'?"), ("zzz", "commands are export, info.")]
)
def test_a_group_of_a_plugin_suggests_too(name, words):
    """A misspelled command of a plugin's group is a usage error that names the nearest one, or all."""
    group = SubcommandGroup("lmdb", commands={each: click.Command(each) for each in ("export", "info")})
    done = CliRunner().invoke(group, [name])
    assert done.exit_code == 2
    assert f"there is no command {name!r}; {words}" in done.output
