"""The placement benchmark runs on any trace of openb's form, and its choices are the cheapest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

NODES = """sn,cpu_milli,memory_mib,gpu,model
a,32000,131072,4,T4
b,16000,65536,0,
c,32000,131072,4,G2
"""
PODS = """name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec
p0,4000,8192,1,1000,
p1,2000,4096,1,460,G2|T4
p2,1000,1024,0,0,
p3,8000,8192,2,1000,
p4,64000,8192,0,0,
p5,1000,1024,1,300,T4
"""


def test_it_prints_what_it_reached(tmp_path: Path) -> None:
    (tmp_path / "nodes.csv").write_text(NODES)
    (tmp_path / "pods.csv").write_text(PODS)
    command = [sys.executable, "-m", "tests.bench.placement", "--nodes", str(tmp_path / "nodes.csv")]
    command += ["--pods", str(tmp_path / "pods.csv"), "--seed", "7"]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=180).stdout
    result = json.loads(output.splitlines()[-1])
    assert (result["regret"], result["nodes"], result["pods"], result["placed"]) == (0.0, 3, 6, 5)
    assert result["decisions_per_s"] > 0
    # 1 + 0.46 + 2 + 0.3 of 8 GPUs, 4 + 2 + 1 + 8 + 1 of 80 cores, 22 of 320 GiB.
    assert result["gpu_allocation"] == 0.47
    assert result["cpu_allocation"] == 0.2
    assert result["memory_allocation"] == round(22 / 320, 4)
