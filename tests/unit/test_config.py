"""What a configuration may say, and how a mistake in it is told: file, line, what is wrong, what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
from vsnd_hybrid.backends.options import BackendSpec
from vsnd_hybrid.service.config import AUTO, Settings, StreamSettings, from_options
from vsnd_hybrid.service.errors import ConfigError
from vsnd_hybrid.service.toml import load

WHOLE = """\
socket-path = "/run/user/1000/guest.sock"
backend = "pipewire,remote=guests"
log-level = "info"

[[stream]]
direction = "output"
target = "speakers"
latency = "power"
name = "the guest"
formats = ["S16", "S32"]
rates = [
    44100,
    48000,
]
channels = [1, 2]

[[stream]]
direction = "input"
backend = { name = "pipewire", remote = "a, b", props = true }
latency = 256
channels = 1
options = { props = true, target = 7 }
"""


def read(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "vsnd.toml"
    file.write_text(text)
    return load(file)


def mistake(tmp_path: Path, text: str) -> str:
    """The message for a file, without the directory."""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{tmp_path}/vsnd.toml:")
    return message.removeprefix(f"{tmp_path}/")


def test_a_file_says_all_that_the_options_say_and_describes_streams(tmp_path: Path) -> None:
    assert read(tmp_path, WHOLE) == Settings(
        socket_path="/run/user/1000/guest.sock",
        backend=BackendSpec("pipewire", {"remote": "guests"}),
        log_level="info",
        streams=(
            StreamSettings(
                direction="output",
                target="speakers",
                latency="power",
                name="the guest",
                formats=("S16", "S32"),
                rates=(44100, 48000),
                channels=(1, 2),
            ),
            StreamSettings(
                direction="input",
                backend=BackendSpec("pipewire", {"remote": "a, b", "props": "true"}),
                latency="256",
                channels=(1, 1),
                options={"props": "true", "target": "7"},
            ),
        ),
    )


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "") == Settings()


def test_without_a_word_there_is_one_output_and_one_input() -> None:
    assert [stream.direction for stream in Settings().all_streams()] == ["output", "input"]


def test_counted_streams_are_outputs_first() -> None:
    assert [s.direction for s in Settings(outputs=2, inputs=1).all_streams()] == ["output", "output", "input"]


def test_a_device_without_streams_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        Settings(outputs=0, inputs=0).all_streams()


def test_the_command_line_overrides_the_file() -> None:
    file = Settings(socket_path="/a", backend=AUTO, outputs=3, inputs=3, log_level="info")
    line = Settings(socket_path="/b", backend=BackendSpec("null"), outputs=1)
    assert line.over(file) == Settings(
        socket_path="/b", backend=BackendSpec("null"), outputs=1, inputs=3, log_level="info"
    )


def test_what_the_command_line_says_is_empty_is_not_what_the_file_says() -> None:
    file = Settings(user="vm", socket_group="kvm", socket_path="/a")
    assert Settings(user="", socket_group="", socket_path="").over(file) == Settings(
        user="", socket_group="", socket_path=""
    )


def test_as_many_streams_can_be_described_as_counted(tmp_path: Path) -> None:
    described = "".join(f'[[stream]]\ndirection = "{way}"\n' for way in ("output", "input") * 32)
    assert len(read(tmp_path, described).all_streams()) == len(Settings(outputs=32, inputs=32).all_streams()) == 64


def test_a_number_that_python_does_not_read_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="thousands of digits"):
        read(tmp_path, f"outputs = {'9' * 5000}\n")


def test_a_descriptor_on_the_command_line_replaces_the_path_of_the_file() -> None:
    assert Settings(fd=3).over(Settings(socket_path="/a")) == Settings(fd=3)


def test_counts_on_the_command_line_do_not_go_with_described_streams(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--outputs and --inputs"):
        Settings(outputs=2).over(read(tmp_path, WHOLE))


STREAM = '\n\n[[stream]]\ndirection = "output"\n'


@pytest.mark.parametrize(
    ("text", "line", "wrong", "allowed"),
    [
        ("outputs = 1\ninputs =", 2, "invalid value", "TOML"),
        ('a = "', 1, "unterminated", "TOML"),
        ("outputs = 1\noutputs = 2\n", 2, "cannot overwrite a value", "TOML"),
        ("# first\n\noutput = 1\n", 3, 'unknown key "output"', "outputs, inputs"),
        ("outputs = -1\n", 1, "outputs is -1", "from 0 to 32"),
        ('# x\noutputs = "two"\n', 2, "outputs is a string", "from 0 to 32"),
        ("outputs = 1" + STREAM, 1, "[[stream]] describes", "one of the two"),
        ('log-level = "loud"\n', 1, 'log-level is "loud"', '"error", "warning", "info", "debug"'),
        ('backend = "file,dir"\n', 1, "'dir' is no option, expected key=value", "file,dir=/tmp"),
        ('backend = { dir = "/tmp" }\n', 1, "the table has no name", 'name = "file"'),
        ("backend = 3\n", 1, "backend is a whole number", "a string such as"),
        ("stream = 3\n", 1, "stream is a whole number", "[[stream]] tables"),
        ("\n[[stream]]\nrates = [48000]\n", 2, "[[stream]] without direction", '"output" or "input"'),
        ('\n\n[[stream]]\ndirection = "out"\n', 4, 'direction is "out"', '"output" or "input"'),
        (f'{STREAM}{STREAM}\n# here\nfromats = ["S16"]\n', 11, 'unknown key "fromats" in [[stream]]', "formats"),
        (
            f'{STREAM}latency = "soon"\n',
            5,
            'latency is "soon"',
            '"low", "balanced", "power", or frames from 1 to 65536',
        ),
        (f"{STREAM}latency = 0\n", 5, "latency is 0", "or frames from 1 to 65536"),
        (f"{STREAM}latency = 1.5\n", 5, "latency is a number with a fraction", '"power"'),
        (f'{STREAM}formats = [\n  "S16",\n  "S17",\n]\n', 5, 'unknown format "S17"', '"S16"'),
        (f"{STREAM}formats = []\n", 5, "formats is empty", '"S16"'),
        (f"{STREAM}rates = []\n", 5, "rates is empty", "48000"),
        (f"{STREAM}channels = []\n", 5, "channels is []", "[smallest, largest]"),
        (f'{STREAM}formats = "S16"\n', 5, "formats is a string", "a list of"),
        (f"{STREAM}rates = [44100, 48001]\n", 5, "unknown rate 48001", "48000"),
        (f'{STREAM}rates = [44100, "48000"]\n', 5, "item 2 of rates is a string", "48000"),
        (f"{STREAM}channels = 0\n", 5, "channels is 0", "from 1 to 18"),
        (f"{STREAM}channels = [2, 1]\n", 5, "channels is [2, 1]", "[smallest, largest]"),
        (f"{STREAM}channels = [2]\n", 5, "channels is [2]", "[smallest, largest]"),
        (f'{STREAM}channels = ["a"]\n', 5, "item 1 of channels is a string", "[smallest, largest]"),
        (f"{STREAM}options = {{ a = [1] }}\n", 5, "a value in options is a list", "a table of strings"),
        (f'{STREAM}backend = {{ name = "file", dir = [1] }}\n', 5, "a value in backend is a list", 'name = "file"'),
        (
            f'backend = "null"{STREAM}latency = "low"\n',
            5,
            'backend "null" has no "latency" of a stream',
            "none of target",
        ),
        (
            f'{STREAM}backend = "null"\ntarget = "x"\n',
            6,
            'backend "null" has no "target" of a stream',
            "none of target",
        ),
        (
            f'{STREAM}backend = "file"\n[stream.options]\na = 1\nb = 2\n',
            7,
            'backend "file" has no "a"',
            "none of target",
        ),
        (
            f"{STREAM}[stream.options]\nprops = 1\nremote = 2\n",
            7,
            'backend "auto" has no "remote"',
            "latency, props, target",
        ),
        (STREAM * 33, 131, "33 outputs", "at most 32 each way"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_is_allowed(
    tmp_path: Path, text: str, line: int, wrong: str, allowed: str
) -> None:
    message = mistake(tmp_path, text)
    place, _, rest = message.partition(": ")
    assert place == f"vsnd.toml:{line}"
    told, _, may = rest.partition("; allowed: ")
    assert wrong in told
    assert allowed in may


def test_what_a_stream_may_set_depends_on_the_backend_of_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "vsnd.toml"
    file.write_text(f'backend = "pipewire"{STREAM}target = "speakers"\n')
    assert from_options(config=str(file)).streams[0].target == "speakers"
    with pytest.raises(ConfigError, match=r'vsnd\.toml:5: backend "null" has no "target" of a stream'):
        from_options(config=str(file), backend="null")


def test_what_a_stream_sets_for_a_backend_that_there_is_not_is_no_mistake_of_the_stream(tmp_path: Path) -> None:
    settings = read(tmp_path, f'backend = "nul"{STREAM}target = "speakers"\n')
    assert settings.streams[0].target == "speakers"


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*none\.toml: No such file"):
        load(tmp_path / "none.toml")


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "vsnd.toml").write_bytes(b"outputs = \xff")
    with pytest.raises(ConfigError, match="byte 10 is no UTF-8"):
        load(tmp_path / "vsnd.toml")
