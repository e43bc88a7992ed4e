"""The search for secrets finds them, wherever a server could have written them."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from tests.leaks import MARK, LeakHandler, assert_no_leak


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "dump.aof").write_bytes(b"\0SET job:1\0")
    (tmp_path / "s3.json").write_text(MARK)
    assert_no_leak(tmp_path, ["serving gRPC"], "", "key-of-the-bucket")


def test_a_secret_in_a_file_is_found(tmp_path: Path) -> None:
    deep = tmp_path / "redis" / "appendonlydir"
    deep.mkdir(parents=True)
    (deep / "dump.aof").write_bytes(b"\0\xff" + MARK.encode() + b"\0")
    with pytest.raises(AssertionError, match=r"dump\.aof"):
        assert_no_leak(tmp_path, [])
    with pytest.raises(AssertionError, match=r"dump\.aof"):
        assert_no_leak(tmp_path, [], "another")


def test_a_secret_in_a_log_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="at key-of-the-bucket"):
        assert_no_leak(tmp_path, ["at key-of-the-bucket"], "key-of-the-bucket")
    handler = LeakHandler()
    for text in (f"sent {MARK}", "sent nothing", f"at https://h/?token={MARK}"):
        handler.handle(logging.LogRecord("ingot_server.a", logging.INFO, "", 1, text, (), None))
    assert handler.found == [f"ingot_server.a: sent {MARK}"]


def test_a_secret_in_a_command_line_is_found(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "input()", "ingot_server", f"--key={MARK}"], stdin=subprocess.PIPE
    ) as server:
        try:
            with pytest.raises(AssertionError, match="--key"):
                assert_no_leak(tmp_path, [])
        finally:
            server.kill()
