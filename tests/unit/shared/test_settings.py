"""What is left out of the settings of a connection, or goes with nothing, is refused by its name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.runtime.connections import kafka_options
from shared.runtime.read_model import redis_options
from shared.runtime.settings import CommonSettings

CASES: tuple[tuple[dict[str, str], str], ...] = (
    ({"kafka_security": "SASL_SSL", "kafka_password": "x"}, "FLOTILLA_KAFKA_USERNAME is needed"),
    ({"kafka_security": "SASL_PLAINTEXT", "kafka_username": "x"}, "FLOTILLA_KAFKA_PASSWORD is needed"),
    ({"kafka_username": "x", "kafka_password": "x"}, "FLOTILLA_KAFKA_USERNAME needs FLOTILLA_KAFKA_SECURITY"),
    ({"kafka_ca": "{file}"}, "FLOTILLA_KAFKA_CA needs FLOTILLA_KAFKA_SECURITY"),
    ({"kafka_security": "SSL", "kafka_ca": "{file}.not"}, "FLOTILLA_KAFKA_CA: there is no file"),
    ({"kafka_security": "SSL", "kafka_key": "{file}"}, "FLOTILLA_KAFKA_CERTIFICATE and FLOTILLA_KAFKA_KEY go together"),
    ({"redis_ca": "{file}"}, "FLOTILLA_REDIS_CA needs rediss://"),
    ({"redis_url": "rediss://r:1/0", "redis_certificate": "{file}"}, "FLOTILLA_REDIS_KEY go together"),
)


@pytest.mark.parametrize(("given", "told"), CASES, ids=[told for _, told in CASES])
def test_what_does_not_go_together(given: dict[str, str], told: str, tmp_path: Path) -> None:
    file = tmp_path / "a.pem"
    file.touch()
    with pytest.raises(ValidationError) as caught:
        CommonSettings.model_validate({name: value.format(file=file) for name, value in given.items()})
    assert told in str(caught.value)


def test_what_goes_together_reaches_the_clients(tmp_path: Path) -> None:
    file = tmp_path / "a.pem"
    file.touch()
    settings = CommonSettings.model_validate(
        {
            "kafka_security": "SASL_SSL",
            "kafka_ca": str(file),
            "kafka_username": "alice",
            "kafka_password": "secret",
            "redis_url": "rediss://r:1/0",
            "redis_ca": str(file),
            "redis_certificate": str(file),
            "redis_key": str(file),
            "redis_username": "bob",
            "redis_password": "hidden",
        }
    )
    assert "secret" not in repr(settings)
    kafka, redis = kafka_options(settings), redis_options(settings, timeout_s=2)
    assert (kafka.ca, kafka.username, kafka.password) == (str(file), "alice", "secret")
    assert redis.client_arguments() == {
        "ssl_ca_certs": str(file),
        "ssl_certfile": str(file),
        "ssl_keyfile": str(file),
        "username": "bob",
        "password": "hidden",
    }
    assert redis.timeout_s == 2


def test_a_service_says_so_and_ends() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.simulator"],
        env={"FLOTILLA_KAFKA_SECURITY": "SASL_SSL", "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "Value error, FLOTILLA_KAFKA_USERNAME is needed with FLOTILLA_KAFKA_SECURITY=SASL_SSL\n"
