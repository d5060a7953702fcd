"""What is shipped for deployment is valid by its own schema, and fits what the proxy says of itself."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from proxy import settings
from proxy.policy import read_files
from proxy.units import duration_s

ROOT = Path(__file__).parents[1]
COMPOSE, KUBERNETES, DOCKERFILE = ROOT / "deploy/compose.yaml", ROOT / "deploy/kubernetes.yaml", ROOT / "Dockerfile"
KUBERNETES_VERSIONS = ("1.29", kubernetes_validate.latest_version())
"""The first in which native sidecars are on, and the newest that the validator knows."""

Json = dict[str, Any]


def compose() -> Json:
    """With its variables put in as Compose does where only the password is set."""
    found: Json = _interpolated(yaml.safe_load(COMPOSE.read_text("utf-8")))
    return found


def _interpolated(value: Any) -> Any:
    match value:
        case str():
            text = re.sub(r"\$\{POSTGRES_PASSWORD:\?[^}]*\}", "secret", value)
            text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
            assert "$" not in text
            return text
        case list():
            return [_interpolated(each) for each in value]
        case dict():
            return {key: _interpolated(each) for key, each in value.items()}
    return value


def manifests() -> dict[str, Json]:
    """By kind."""
    return {found["kind"]: found for found in yaml.safe_load_all(KUBERNETES.read_text("utf-8"))}


def pod() -> Json:
    found: Json = manifests()["Deployment"]["spec"]["template"]["spec"]
    return found


def sidecar() -> Json:
    (found,) = pod()["initContainers"]
    return dict(found)


def dockerfile(word: str) -> list[str]:
    """The rest of each such line of the image itself, continuation lines joined."""
    final = DOCKERFILE.read_text("utf-8").rpartition("\nFROM ")[2].replace("\\\n", " ")
    return [line.removeprefix(f"{word} ") for line in final.splitlines() if line.startswith(f"{word} ")]


def image_environment() -> dict[str, str]:
    pairs = " ".join(dockerfile("ENV")).split()
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs) if name.startswith("REMORA_")}


def composed() -> dict[str, str]:
    found: dict[str, str] = compose()["services"]["remora-a"]["environment"]
    return found


def orchestrated() -> dict[str, str]:
    return {each["name"]: each["value"] for each in sidecar()["env"]}


def by_compose_schema(file: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_compose_file_is_one(tmp_path: Path) -> None:
    done = by_compose_schema(COMPOSE)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text("utf-8").replace("stop_grace_period: 45s", "stop_grace: 45s"), "utf-8")
    assert "stop_grace" in by_compose_schema(wrong).stdout


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_the_manifest_is_one(version: str) -> None:
    found = manifests()
    assert set(found) == {"ConfigMap", "PersistentVolumeClaim", "Deployment"}
    for each in found.values():
        kubernetes_validate.validate(each, version, strict=True)
    found["Deployment"]["spec"]["template"]["spec"]["initContainers"][0]["restartpolicy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(found["Deployment"], version, strict=True)


@pytest.mark.parametrize("named", [composed, orchestrated, image_environment])
def test_the_settings_are_ours_and_right(named: Callable[[], dict[str, str]]) -> None:
    environ = {"REMORA_UPSTREAM": "echo:", **named()}
    if "REMORA_POLICIES" in environ:
        environ["REMORA_POLICIES"] = str(ROOT / Path(environ["REMORA_POLICIES"]).name)
    assert len(environ) > 3
    settings.read({}, environ)


def test_what_compose_names_is_there() -> None:
    found = compose()
    services = found["services"]
    for name, service in services.items():
        for other in service.get("depends_on", {}):
            assert "healthcheck" in services[other], name
        for volume in service.get("volumes", ()):
            assert volume.partition(":")[0] in found["volumes"]
        if (network := service.get("network_mode")) is not None:
            assert network.removeprefix("service:") in services
    assert settings.address(composed()["REMORA_LISTEN"])[0] == "127.0.0.1"


@pytest.mark.parametrize("app", ["app-a", "app-b"])
def test_the_placeholder_asks_its_own_sidecar(app: str) -> None:
    service = compose()["services"][app]
    assert service["network_mode"] == f"service:remora-{app[-1]}"
    assert service["environment"]["OPENAI_BASE_URL"] == f"http://{composed()['REMORA_LISTEN']}/v1"
    (script,) = service["command"]
    compile(script, "the placeholder", "exec")


def test_probes_ask_for_what_the_admin_listener_serves() -> None:
    port = settings.address(orchestrated()["REMORA_ADMIN"])[1]
    (named,) = sidecar()["ports"]
    assert named["containerPort"] == port
    for probe, path in (("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
        assert sidecar()[probe]["httpGet"] == {"path": path, "port": named["name"]}
    check = compose()["services"]["remora-a"]["healthcheck"]["test"]
    assert check[:3] == ["CMD", "python", "-c"]
    assert "/readyz" in check[3]
    assert str(settings.address(composed()["REMORA_ADMIN"])[1]) in check[3]
    compile(check[3], "the health check", "exec")


def test_the_app_asks_the_listener_of_its_pod() -> None:
    (app,) = pod()["containers"]
    environ = {each["name"]: each.get("value") for each in app["env"]}
    assert environ["OPENAI_BASE_URL"] == f"http://{orchestrated()['REMORA_LISTEN']}/v1"


def test_nobody_is_root_and_only_data_is_written() -> None:
    user, group = dockerfile("USER")[0].split(":")
    security = sidecar()["securityContext"]
    assert (str(security["runAsUser"]), str(security["runAsGroup"])) == (user, group)
    assert user != "0"
    assert security["readOnlyRootFilesystem"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert not security["allowPrivilegeEscalation"]
    assert pod()["securityContext"]["runAsNonRoot"]
    assert str(pod()["securityContext"]["fsGroup"]) == group
    written = [mount["mountPath"] for mount in sidecar()["volumeMounts"] if not mount.get("readOnly")]
    assert written == dockerfile("VOLUME") == ["/data"]
    for environ in (orchestrated(), image_environment()):
        assert environ["REMORA_STORE"].startswith("sqlite:////data/")
    for name in ("remora-a", "remora-b"):
        service = compose()["services"][name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


def test_it_is_a_sidecar_that_gets_the_time_to_stop() -> None:
    assert sidecar()["restartPolicy"] == "Always"
    stop_s = settings.Settings(upstream="").stop_timeout_s
    assert pod()["terminationGracePeriodSeconds"] > 2 * stop_s
    assert duration_s(compose()["services"]["remora-a"]["stop_grace_period"]) > stop_s + 10
    deployment = manifests()["Deployment"]["spec"]
    assert (deployment["replicas"], deployment["strategy"]["type"]) == (1, "Recreate"), "one SQLite file, one pod"


def test_the_policies_of_the_manifest_are_right(tmp_path: Path) -> None:
    files = []
    for name, text in manifests()["ConfigMap"]["data"].items():
        files.append(tmp_path / name)
        files[-1].write_text(text, "utf-8")
    policies, mistakes = read_files(files)
    assert mistakes == []
    assert [policy.name for policy in policies] == ["default"]


def sources() -> Iterator[str]:
    """What the Dockerfile takes from here."""
    for line in DOCKERFILE.read_text("utf-8").splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            yield from line.split()[1:-1]


def test_the_image_is_made_of_what_is_there() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").split()
    found = list(sources())
    assert {"proxy", "policies", "requirements.lock", "pyproject.toml"} <= set(found)
    for name in found:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignored
    assert dockerfile("EXPOSE") == ["8080 9901"]
    environ = image_environment()
    assert [settings.address(environ[name]) for name in ("REMORA_LISTEN", "REMORA_ADMIN")] == [
        ("0.0.0.0", 8080),
        ("0.0.0.0", 9901),
    ]
    assert os.fspath(Path(environ["REMORA_POLICIES"])) == dockerfile("WORKDIR")[0] + "/policies"
