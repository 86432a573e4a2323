"""What a real run leaves in the metrics, beside what it says of itself."""

import threading
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from ptystream.metrics import PHASES
from ptystream.service.live import Service
from tests.service.test_live import served
from tests.system.beam import Beam


def scraped(service):
    with urllib.request.urlopen(service.addresses()["http"] + "/metrics") as reply:
        text = reply.read().decode()
    return {
        (sample.name.removeprefix("ptystream_"), *sorted(sample.labels.values())): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_run_is_in_the_metrics(tmp_path):
    told, stop = [], threading.Event()

    def finished(said):
        told.append(said)
        threading.Timer(1.5, stop.set).start()  # longer than between two looks

    quick = ("refine.max_s=0.6", "publish.every_s=0.1")
    with Beam() as beam, Service(served(beam, tmp_path, *quick)) as service:
        before = scraped(service)
        beam.wait()
        beam.scan()
        service.run(stop, finished=finished)
        after = scraped(service)
    assert before.keys() == after.keys()
    assert [t["reason"] for t in told] == ["complete"]
    assert after["frames_received_total",] == 144
    assert after["frames_paired_total",] == 144
    assert after["received_bytes_total",] == 144 * 32 * 32 * 2
    assert after["samples_received_total",] == 1440
    assert after["scans_total", "complete"] == after["phase", "idle"] == 1
    assert after["store_lag_seconds_count",] == 144
    assert after["pixel_lag_seconds_count",] == 144
    assert after["pixel_lag_seconds_sum",] > after["store_lag_seconds_sum",]
    assert after["step_seconds_count",] > 10
    assert after["connected", "det"] == after["connected", "pos"] == 1
    assert 0 <= after["last_message_age_seconds", "det"] < 10
    assert sum(after["phase", phase] for phase in PHASES) == 1
    assert after["queue_fill_ratio", "ring"] < 0.5
    assert (
        1e8 < after["device_memory_used_bytes",] < after["device_memory_total_bytes",]
    )
    lost = [value for key, value in after.items() if key[0] == "frames_lost_total"]
    assert sum(lost) == 0
