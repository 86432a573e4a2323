"""The example configurations, by the real loader and the commands' own checks."""

import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml

from ptystream.cli import main
from ptystream.config import Config, load
from ptystream.physics.geometry import electron_wavelength_m
from ptystream.physics.probes import ProbeGrid
from ptystream.presets import read_preset
from ptystream.recon.start import from_optics
from ptystream.service.geometry import resolve_geometry
from ptystream.wire.messages import ScanStart
from tests.deploy.exposition import between

EXAMPLES = Path(__file__).parents[2] / "deploy/examples"
PROFILES = {"hxn": "hxn"}
SHAPES = {"beamline": (256, 256), "hxn": (256, 256), "electron-4dstem": (192, 192)}


def example(name: str) -> Config:
    presets = [read_preset("profiles", PROFILES[name])] if name in PROFILES else []
    return load(EXAMPLES / f"{name}.toml", presets=presets, environment={})


def test_there_are_no_others():
    assert {path.stem for path in EXAMPLES.glob("*.toml")} == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_check_config_takes_it(name, capsys):
    profile = ["--profile", PROFILES[name]] if name in PROFILES else []
    path = str(EXAMPLES / f"{name}.toml")
    assert main(["check-config", "--config", path, *profile]) == 0
    capsys.readouterr()


@pytest.mark.parametrize("name", SHAPES)
def test_its_geometry_and_optics_make_a_probe(name):
    config = example(name)
    documents = {"scan": {"detector_distance": 0.5, "detectors": ["eiger2"]}}
    baseline = {"dcm_th": 12.0}
    meta = {"start_document": documents, "baseline": baseline} if name == "hxn" else {}
    start = ScanStart("s", "det", shape=SHAPES[name], dtype="<u2", meta=meta)
    assert config.detector.preprocess.size == SHAPES[name]
    geometry = resolve_geometry(start, config)
    assert config.first_probe.optics is not None
    pixel_m = geometry.object_pixel_m(SHAPES[name])
    grid = ProbeGrid(SHAPES[name], pixel_m, geometry.wavelength_m)
    probe = from_optics(config.first_probe.optics, grid, defocus_m=None)
    assert torch.isfinite(torch.view_as_real(probe)).all()
    light = probe.abs().square().reshape(-1, *SHAPES[name]).sum(0)
    rim = light.clone()
    rim[8:-8, 8:-8] = 0
    assert rim.sum() < 0.05 * light.sum(), "the probe does not fit its window"


def test_the_electrons_have_their_wavelength_and_pixel():
    config = example("electron-4dstem")
    start = ScanStart("s", "det", shape=(192, 192), dtype="<u2")
    geometry = resolve_geometry(start, config)
    assert geometry.wavelength_m == pytest.approx(electron_wavelength_m(80e3), 1e-4)
    pixel_m = geometry.object_pixel_m((192, 192))
    assert pixel_m[0] == pytest.approx(
        electron_wavelength_m(80e3) / (192 * 0.7e-3), 1e-4
    )
    assert pixel_m[0] == pytest.approx(31e-12, rel=0.01)


@pytest.mark.parametrize("name", SHAPES)
def test_the_sizes_in_its_comments_are_right(name):
    """``N GB`` beside a store, ``T s of … at N kHz`` beside a ring."""
    config, text = example(name), (EXAMPLES / f"{name}.toml").read_text()
    frame = SHAPES[name][0] * SHAPES[name][1] * 2
    (told,) = re.findall(r"^store = .*?([\d.]+) GB", text, re.MULTILINE)
    assert float(told) == pytest.approx(config.engine.store * frame / 1e9, rel=0.05)
    ((seconds, rate),) = re.findall(
        r"^ring_mib = .*?([\d.]+) s .*?([\d.]+) kHz", text, re.MULTILINE
    )
    lasts_s = config.detector.ring_mib * 2**20 / (frame * float(rate) * 1e3)
    assert float(seconds) == pytest.approx(lasts_s, rel=0.05)


def test_the_cluster_s_configuration_is_one(deploy, tmp_path):
    documents = yaml.safe_load_all((deploy / "kubernetes/ptystream.yaml").read_text())
    (made,) = [d for d in documents if d["kind"] == "ConfigMap"]
    path = tmp_path / "ptystream.toml"
    path.write_text(made["data"]["ptystream.toml"])
    config = load(path, environment={})
    assert config.publish.metrics == "0.0.0.0:9610"
    sockets = (config.publish.control, config.publish.status, config.publish.preview)
    assert all("//127.0.0.1:" in address for address in sockets)


def test_the_page_s_commands_are_ptystream_s(deploy, capsys):
    """Each ``ptystream`` line of deploy/README.md has flags that there are."""
    lines = between((deploy / "README.md").read_text(), "commands")
    words = [shlex.split(line) for line in lines if line.startswith("ptystream ")]
    assert words
    for command in words:
        with pytest.raises(SystemExit) as ended:
            main([*command[1:], "--help"])
        assert ended.value.code == 0, command
        said = capsys.readouterr().out
        assert all(w in said for w in command if w.startswith("--")), command
