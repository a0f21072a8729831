"""What every test may ask for. Plugins have to be named in the top conftest."""

pytest_plugins = ("tests.fixtures.embedded", "tests.testbed.fixtures")
