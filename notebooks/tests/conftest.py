"""Every test that asks for `trace` runs on each trace there is."""

from traces import REPOSITORY, all_traces


def pytest_generate_tests(metafunc):
    if "trace" in metafunc.fixturenames:
        paths = all_traces()
        # Without any trace the tests would pass by not running.
        assert paths, f"no trace under {REPOSITORY / 'testdata/traces'}: see testdata/README.md"
        names = ["/".join(path.parts[-2:]) for path in paths]
        metafunc.parametrize("trace", paths, ids=names)
