"""What every test may ask for. Plugins have to be named in the top conftest."""

from hypothesis import HealthCheck, settings

pytest_plugins = (
    "tests.fixtures.embedded",
    "tests.fixtures.moto",
    "tests.fixtures.prometheus",
    "tests.fixtures.redis",
    "tests.testbed.fixtures",
)

# By default an example that takes 200 ms fails, and so do some that take long to make: timed tests, on a busy machine.
settings.register_profile("flotilla", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# `pytest tests/property --hypothesis-profile=deep`: what a hundred examples meet once in many runs.
settings.register_profile("deep", deadline=None, max_examples=3000)
settings.load_profile("flotilla")
