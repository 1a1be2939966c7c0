import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def isolated_data(pytester, monkeypatch):
    monkeypatch.delenv("SAIL_DATA", raising=False)
    pytester.makeini("[pytest]\naddopts = --strict-markers\n")


def test_rungs_run_only_when_asked_for(pytester):
    pytester.makepyfile(
        """
        import pytest

        def test_default(): pass

        @pytest.mark.slow
        def test_slow(): pass
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1, deselected=1)
    pytester.runpytest_subprocess("-m", "slow").assert_outcomes(passed=1, deselected=1)
    name = "test_rungs_run_only_when_asked_for.py::test_slow"
    pytester.runpytest_subprocess(name).assert_outcomes(passed=1)


def test_a_gpu_test_is_skipped_or_required(pytester, monkeypatch):
    pytester.makepyfile(torch="class cuda:\n    is_available = staticmethod(lambda: False)\n")
    pytester.makepyfile(test_gpu="import pytest\n\n@pytest.mark.gpu\ndef test_gpu(): pass\n")
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))
    pytester.runpytest_subprocess("-m", "gpu").assert_outcomes(skipped=1)
    monkeypatch.setenv("SAIL_REQUIRE_GPU", "1")
    result = pytester.runpytest_subprocess("-m", "gpu")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*SAIL_REQUIRE_GPU=1, but torch sees no CUDA device*"])


def test_missing_data_is_a_counted_skip(pytester, monkeypatch):
    pytester.makepyfile("def test_needs(sail_data): sail_data('nothing/here')")
    result = pytester.runpytest_subprocess("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["skipped for missing data: 1", "*SAIL_DATA is not set*"])
    monkeypatch.setenv("SAIL_DATA", str(pytester.path))
    result = pytester.runpytest_subprocess("-rs")
    result.stdout.fnmatch_lines(["*SAIL_DATA holds no nothing/here*"])
    pytester.mkdir("nothing").joinpath("here").touch()
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_only_loopback_is_reachable(pytester):
    pytester.makepyfile(
        """
        import socket
        import pytest
        from sail_testkit.network import NetworkBlockedError

        def test_beyond():
            with socket.socket() as client, pytest.raises(NetworkBlockedError, match="192.0.2.1"):
                client.connect(("192.0.2.1", 80))
            with socket.socket(type=socket.SOCK_DGRAM) as client, pytest.raises(NetworkBlockedError):
                client.sendto(b"x", ("192.0.2.1", 9))
            with pytest.raises(NetworkBlockedError, match="hub.invalid"):
                socket.create_connection(("hub.invalid", 443))

        def test_loopback():
            with socket.create_server(("127.0.0.1", 0)) as server:
                with socket.create_connection(server.getsockname()):
                    pass
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=2)


def test_every_test_starts_from_the_same_seed_on_one_thread(pytester):
    pytester.makepyfile(
        """
        import os, random
        seen = []

        def test_a(): seen.append(random.random())

        def test_b():
            seen.append(random.random())
            assert seen[0] == seen[1]
            assert os.environ["OMP_NUM_THREADS"] == "1"
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=2)
