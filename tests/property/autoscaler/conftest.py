from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "autoscaler",
    deadline=None,
    max_examples=int(os.environ.get("FLOTILLA_TEST_EXAMPLES", "60")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("autoscaler")
