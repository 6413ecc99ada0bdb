"""Every test that asks for `trace` runs on each trace there is, for `whole` on each that is no sample."""

from traces import REPOSITORY, all_traces, is_sampled


def pytest_generate_tests(metafunc):
    for name in {"trace", "whole"} & set(metafunc.fixturenames):
        paths = [path for path in all_traces() if name == "trace" or not is_sampled(path)]
        # Without any trace the tests would pass by not running.
        assert paths, f"no trace under {REPOSITORY / 'testdata/traces'}: see testdata/README.md"
        names = ["/".join(path.parts[-2:]) for path in paths]
        metafunc.parametrize(name, paths, ids=names)
