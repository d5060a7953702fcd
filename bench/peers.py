"""Remora stateful beside proxies that keep no state: LiteLLM in a virtual environment of its own, nginx if here."""

import shutil
import subprocess
import time
import venv
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench import report
from bench.house import House, Scale
from bench.load import CREDENTIAL, MODEL
from bench.machine import Machine, machine_line, versions_line
from bench.measure import Case, say
from bench.procs import BenchError, Processes, Server, free_port
from bench.sample import Samples, Target
from bench.workplace import workplace

VENV = Path(__file__).resolve().parent / ".venv-peers"
CONNECTIONS = 16
DEPTH = 100
SCALE = Scale(
    rounds=5,
    requests={CONNECTIONS: 320},
    depths=(DEPTH,),
    pools={DEPTH: 320},
    first_requests={},
    extra_rounds=0,
    most_s=300,
)
LITELLM_CONFIG = """\
model_list:
  - model_name: %(model)s
    litellm_params:
      model: openai/%(model)s
      api_base: http://127.0.0.1:%(port)d/v1
      api_key: sk-upstream
litellm_settings:
  telemetry: false
"""
SETTING = """\
{now:%Y-%m-%d %H:%M} UTC. LiteLLM {litellm} (one worker, master key, no database, no telemetry; it keeps no state).
{rounds} rounds, window 4,000 tokens. {versions}.
{where}; during the run: {busy}."""
NGINX_CONFIG = """\
daemon off;
worker_processes 1;
pid %(folder)s/nginx.pid;
error_log stderr error;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path %(folder)s/nginx-body;
  proxy_temp_path %(folder)s/nginx-proxy;
  fastcgi_temp_path %(folder)s/nginx-fastcgi;
  uwsgi_temp_path %(folder)s/nginx-uwsgi;
  scgi_temp_path %(folder)s/nginx-scgi;
  upstream stub { server 127.0.0.1:%(stub)d; keepalive 128; }
  server {
    listen 127.0.0.1:%(port)d;
    keepalive_requests 1000000;
    location / { proxy_pass http://stub; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }
  }
}
"""


def install() -> str:
    """The newest LiteLLM proxy in its own environment; returns its version. Raises BenchError."""
    python = VENV / "bin" / "python"
    if not python.exists():
        say(f"making {VENV.name}")
        venv.create(VENV, with_pip=True, clear=True)
    asked = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
    done = subprocess.run([*asked, "litellm[proxy]"], capture_output=True, text=True, timeout=900, check=False)
    show = "import importlib.metadata; print(importlib.metadata.version('litellm'))"
    shown = subprocess.run([str(python), "-c", show], capture_output=True, text=True, timeout=60, check=False)
    if shown.returncode:
        raise BenchError(f"litellm[proxy] could not be installed:\n{done.stderr[-2000:]}")
    if done.returncode:
        say(f"litellm could not be brought up to date, measuring the one that is here:\n{done.stderr[-500:]}")
    return shown.stdout.strip()


def litellm(processes: Processes, folder: Path, stub: Server) -> Server:
    """LiteLLM's proxy: one worker, a master key, no database, no telemetry, no logging of requests."""
    port = free_port()
    config = folder / "litellm.yaml"
    config.write_text(LITELLM_CONFIG % {"model": MODEL, "port": stub.port})
    env = {
        "LITELLM_MASTER_KEY": CREDENTIAL.removeprefix("Bearer "),
        "LITELLM_TELEMETRY": "False",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "NO_PROXY": "127.0.0.1",
    }
    argv = [str(VENV / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    return processes.serve("litellm", [*argv, "--num_workers", "1", "--telemetry", "False"], port, env=env, wait_s=120)


def nginx(processes: Processes, folder: Path, stub: Server) -> Server | None:
    program = shutil.which("nginx")
    if program is None:
        return None
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX_CONFIG % {"folder": folder, "stub": stub.port, "port": port})
    return processes.serve("nginx", [program, "-p", str(folder), "-c", str(config)], port)


def measure_peers(*, quick: bool) -> str:
    """The section of RESULTS.md."""
    version = install()
    machine = Machine()
    scale = msgspec.structs.replace(SCALE, rounds=2 if quick else SCALE.rounds)
    with workplace() as (folder, processes):
        where = machine_line(folder)
        house = House(processes, folder, scale)
        peer = litellm(processes, folder, house.stub)
        web = nginx(processes, folder, house.stub)
        house.idle_mb["litellm"] = peer.rss_mb()
        cases = [*house.cases, *([Case("nginx", web)] if web else []), Case("litellm", peer)]
        time.sleep(2)  # LiteLLM goes on with its start after it listens
        rounds = house.bench.load_runs(cases, scale.requests, scale.rounds, scale.most_s)
        busy = machine.line()
        samples = Samples(house.bench.samples)
    names = [case.name for case in cases]
    stateful = f"s{DEPTH}"
    found = [
        Target(
            f"Remora stateful CPU, {'plain' if kind == 'plain' else 'streamed'}, at {CONNECTIONS}, to LiteLLM",
            1 / 30,
            samples.ratio(stateful, "litellm", kind, CONNECTIONS, lambda s: s.cpu_us),
        )
        for kind in ("plain", "stream")
    ]
    faults = samples.faults()
    parts = [
        "## Remora beside other proxies",
        SETTING.format(
            now=datetime.now(UTC), litellm=version, rounds=rounds, versions=versions_line(), where=where, busy=busy
        ),
        report.target_table(found, digits=4),
        "### Plain replies",
        report.load_table(samples, "plain", names, [CONNECTIONS]),
        "### Streamed replies",
        report.load_table(samples, "stream", names, [CONNECTIONS]),
        report.memory_line(samples, names, house.idle_mb),
        "" if web else "nginx is not installed here, so it is not in the table.",
        "Runs with errors:\n\n" + "\n".join(f"- {line}" for line in faults) if faults else "No run had an error.",
    ]
    return "\n\n".join(part for part in parts if part)
