"""The live page, as served and in a real browser: it streams, survives a lost connection, predicts, and obeys its own policy."""

import base64
import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from selenium.webdriver.common.keys import Keys as Press
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from app.api import page
from scripts.gyro import motion
from scripts.gyro.config import Config
from scripts.gyro.data import Gyro
from tests import page_models
from tests.browser import CHROMIUM, DRIVER, Browser, browser
from tests.servers import ROOT, Server, serve

READER, SLOW = "a-secret-of-the-reader", "a-secret-of-a-slow-one"
needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="there is no chromium with its chromedriver on the PATH: apt-get install chromium chromium-driver",
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the committed model, a forecaster, a classifier and a regressor."""
    model_dir = tmp_path_factory.mktemp("models")
    shutil.copytree(ROOT / "model/gyro-denoiser", model_dir / "gyro-denoiser")
    page_models.forecaster(model_dir)
    page_models.classifier(model_dir)
    page_models.regressor(model_dir)
    return model_dir


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serve(models, "--workers", "1") as running:
        yield running


@pytest.fixture(scope="module")
def keyed(models: Path) -> Iterator[Server]:
    """A service of the same models with two keys, one of which has a low rate."""
    with serve(models, "--workers", "1", RECURVE_API_KEYS=f"reader:predict:{READER},slow:predict@10:{SLOW}") as running:
        yield running


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("downloads")) as opened:
        yield opened


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url) as made:
        yield made


def assets(text: str) -> list[str]:
    """The URLs of the files that a page refers to."""
    return re.findall(r'(?:src|href)="([^"]+)"', text)


# -- as served --------------------------------------------------------------------------------------------------------


def test_the_page_says_what_it_may_do(client: httpx.Client) -> None:
    """Nothing from another origin and nothing inline, so a text in a model's manifest stays text."""
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", answer.text)


def test_every_file_of_the_page_is_there_and_is_kept_for_good(client: httpx.Client) -> None:
    """All addresses are relative, so the page may be served behind any path; the names change with the contents of the files."""
    text = client.get("/").text
    named = [path for path in assets(text) if path.startswith("assets/")]
    modules = {path.name for path in page.FOLDER.glob("*.js")}
    assert len(named) >= 6
    assert not [path for path in assets(text) if path.startswith(("/", "http"))]
    folder = named[0].rpartition("/")[0]
    for path in {*named, *(f"{folder}/{name}" for name in modules)}:
        answer = client.get(f"/{path}")
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "public, max-age=31536000, immutable"), path
        for imported in re.findall(r'^import .* from "([^"]+)"', answer.text, re.MULTILINE):
            assert imported.removeprefix("./") in modules, f"{path} imports {imported}"
    assert client.get(f"/{folder}x/main.js").status_code == 404
    assert client.get(f"/{folder}/..%2Findex.html").status_code == 404


def test_what_has_not_changed_is_not_sent_again(client: httpx.Client) -> None:
    for path in ("/", "/" + assets(client.get("/").text)[0]):
        whole, head = client.get(path), client.head(path)
        assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", whole.headers["etag"])
        assert whole.headers["content-encoding"] == "gzip"
        plain = client.get(path, headers={"Accept-Encoding": "identity"})
        assert (plain.content, "content-encoding" in plain.headers) == (whole.content, False)
        again = client.get(path, headers={"If-None-Match": whole.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_the_plots_are_drawn_by_uplot_as_its_authors_published_it(client: httpx.Client) -> None:
    """Another package contains it: its bytes must be those of version 1.6.31 in the npm registry, which the browser checks too."""
    text = client.get("/").text
    published = {
        "uplot.js": "2d27e8ad3d228164525ce213f9dc716f39b4e3aee0cc773fb3491c96cf4921a2",
        "uplot.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    }
    for name, digest in published.items():
        (tag,) = re.findall(rf"<[^>]*/{re.escape(name)}\"[^>]*>", text)
        body = client.get("/" + assets(tag)[0]).content
        assert sha256(body).hexdigest() == digest
        assert f'integrity="{page.PUBLISHED[name]}"' in tag


@pytest.mark.parametrize("files", ["changed", "missing"])
def test_a_library_that_is_not_as_it_was_published_is_not_served(
    files: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A changed library would run in the page with its user's key; the page works without the library, and the log says so."""
    found = page.library() | {"uplot.js": tmp_path / "uplot.iife.min.js"}
    if files == "changed":
        found["uplot.js"].write_bytes(page.library()["uplot.js"].read_bytes() + b" ")
    site = page.Site(found)
    assert "uplot.js" not in site.files
    assert {"uplot.css", "main.js"} <= site.files.keys()
    assert page.PUBLISHED["uplot.css"].encode() in site.page.body
    assert page.PUBLISHED["uplot.js"].encode() not in site.page.body
    (told,) = caplog.messages
    assert str(found["uplot.js"]) in told
    assert "pip install --force-reinstall" in told


def test_without_the_library_of_the_plots_the_page_is_served_all_the_same() -> None:
    """A user of an older environment must still be able to start the service; the page says what is missing."""
    site = page.Site({})
    assert b"{{" not in site.page.body
    assert "uplot.js" not in site.files
    assert "main.js" in site.files


def test_the_simulated_device_is_the_one_that_the_model_was_trained_on() -> None:
    """The model has learned the scale factors and misalignment of this device."""
    told = json.loads(re.search(r"SPECIMEN = (\{.*\});", (page.FOLDER / "specimen.js").read_text(), re.DOTALL)[1])  # type: ignore[index]  # it is there
    specimen = Gyro(Config()).specimen
    assert told["part"] == specimen.part.name
    for name, channel, matrix in (
        ("gyro", specimen.part.gyro, specimen.gyro),
        ("accelerometer", specimen.part.accelerometer, specimen.accelerometer),
    ):
        np.testing.assert_allclose(told[name].pop("matrix"), matrix, rtol=1e-7, atol=1e-9)
        assert told[name] == {figure: getattr(channel, figure) for figure in told[name]}


def test_models_are_told_with_names_and_units(client: httpx.Client) -> None:
    answer = client.get("/models").json()
    told = {model["name"]: model for model in answer["models"]}
    assert answer["default"] == "gyro-denoiser"
    assert set(told) == {"gyro-denoiser", "load-forecaster", "activity-classifier", "oil-temperature"}
    gyro, forecaster = told["gyro-denoiser"], told["load-forecaster"]
    assert (gyro["sample_rate"], gyro["streamable"], gyro["horizon"], gyro["time_steps"]) == (100.0, True, None, None)
    assert gyro["features"][0] == {"name": "gyro_x", "unit": "deg/s"}
    assert gyro["outputs"][0]["signals"][2] == {"name": "rate_z", "unit": "deg/s"}
    assert (forecaster["task"], forecaster["streamable"]) == ("forecast", False)
    assert (forecaster["time_steps"], forecaster["horizon"]) == (page_models.CONTEXT, page_models.HORIZON)
    assert [(each["name"], each["shape"]) for each in forecaster["outputs"]] == [("output", [24, 2]), ("quantiles", [24, 2, 3])]
    assert gyro["provider"] == "CPUExecutionProvider"
    assert gyro["truth"] is None  # a model that was not trained on tables does not say
    for name, description in told.items():
        assert client.get(f"/models/{name}").json() == client.get(f"/models/{name}?version=1").json() == description
    for path in ("/models/gyro-denoiser?version=7", "/models/nobody"):
        assert client.get(path).status_code == 404


@pytest.mark.parametrize("model", ["gyro-denoiser", "load-forecaster", "activity-classifier"])
def test_the_example_of_a_model_is_a_sequence_that_it_answers(client: httpx.Client, model: str) -> None:
    answer = client.get(f"/models/{model}/example")
    example = answer.json()
    assert (example["model"], example["version"]) == (model, "1")
    asked = {"instances": [example["input"]], "model": model}
    assert client.post("/predict", json=asked).status_code == 200
    assert client.get(f"/models/{model}/example?version=7").status_code == 404
    digits = [number.replace(".", "").lstrip("0") for number in re.findall(r"\d+\.\d+", answer.text)]
    assert 4 < max(map(len, digits)) <= 9  # as many digits as distinguish float32 values


def test_with_keys_the_page_is_open_and_its_websocket_brings_the_key_as_a_subprotocol(keyed: Server) -> None:
    """A page cannot set the headers of a WebSocket; the answer does not repeat the secret."""
    packed = base64.urlsafe_b64encode(READER.encode()).decode().rstrip("=")
    with httpx.Client(base_url=keyed.url) as client:
        text = client.get("/").text
        assert [client.get(path).status_code for path in ("/models", "/" + assets(text)[0])] == [200, 200]
        assert client.get("/models/gyro-denoiser/example").status_code == 401
        live = f"{keyed.url.replace('http', 'ws')}/streams/ws"
        for wrong in (["recurve"], ["recurve", "recurve.key.AAAA"], ["recurve", "recurve.key.A"]):
            with pytest.raises(InvalidStatus, match="401"), connect(live, subprotocols=wrong):  # type: ignore[arg-type]  # names
                pass
        with connect(live, subprotocols=["recurve", f"recurve.key.{packed}"]) as socket:  # type: ignore[list-item]  # names
            assert socket.subprotocol == "recurve"
            socket.send(b"\0" * 24)
            assert len(socket.recv()) == 12
        assert not [line for line in keyed.log if READER in line or packed in line]


# -- in a browser -----------------------------------------------------------------------------------------------------


def answered(window: Browser, least: int) -> Callable[[], bool]:
    return lambda: window.number("#answered") >= least


def at_rest(window: Browser) -> int:
    """Pause, wait until everything sent is answered, and return how many samples were."""
    window.click("#pause")
    window.wait(lambda: window.text("#answered") == window.text("#measured") != "0", "all that was measured is answered")
    return int(window.number("#answered"))


def rows_of(text: str) -> tuple[list[str], np.ndarray]:
    names, *rows = csv.reader(io.StringIO(text))
    return names, np.array([[float(cell) for cell in row] for row in rows])


@needs_chromium
def test_the_signal_comes_back_with_less_error_than_it_had(window: Browser, server: Server) -> None:
    """The first thing that users see: the curves move, and the console shows no error and nothing that the policy forbids."""
    window.open(f"{server.url}/?seed=1")
    window.wait(answered(window, 100), "samples are answered")
    before = window.picture()
    window.wait(answered(window, 300), "more samples are answered")
    assert window.picture() != before
    window.wait(lambda: window.number("#error-answer") < 0.5 * window.number("#error-raw"), "the error is less than half")
    window.wait(lambda: window.number("#drift-answer") < window.number("#drift-raw"), "and so is the angle's")
    window.wait_for("#provider", "CPU · gyro-denoiser 1")
    window.wait(lambda: window.number("#p50") > 0, "the time of a round trip is told")
    window.wait_for("#streams", "embedded")
    assert window.complaints() == []


@needs_chromium
def test_the_simulated_sensor_errs_and_moves_as_the_trainers_does(window: Browser, server: Server) -> None:
    """Its noise at rest is as in the datasheet, and its accelerometer feels gravity where the integrated rates put it."""
    window.open(server.url)
    script = """
        const [noise, bias, motion, count, done] = arguments;
        import(document.querySelector('script[type=module]').src.replace('main.js', 'gyro.js')).then(({ Gyroscope }) => {
            const sensor = new Gyroscope(3, { noise, bias, motion, rate: 100 });
            done(Array.from({ length: count }, () => (sensor.next(), [...sensor.features, ...sensor.truth])));
        });
    """
    gyro = Gyro(Config())
    still = np.array(window.driver.execute_async_script(script, 1, 0, 0, 20_000))
    assert not still[:, 6:].any()
    steps = np.diff(still[:, :6], axis=0).std(axis=0)
    np.testing.assert_allclose(steps, np.diff(gyro.still(seconds=200)[0], axis=0).std(axis=0), rtol=0.05)
    wide = np.array(window.driver.execute_async_script(script, 0, 0.5, 0, 100))[:, :3].mean(axis=0)
    assert np.all((np.abs(wide) > 0.35) & (np.abs(wide) < 0.6))
    moving = np.array(window.driver.execute_async_script(script, 0, 0, 0.05, 4000))
    rates, forces = moving[:, 6:], moving[:, 3:6]
    attitudes = motion.integrate(rates[None], sample_rate=100)[0]
    felt = np.einsum("tij,tj->ti", attitudes, forces)
    assert np.abs(forces[-1] - forces[0]).max() > 1  # it has turned enough
    np.testing.assert_allclose(np.linalg.norm(felt.mean(axis=0)), motion.GRAVITY, atol=0.4)
    expected = gyro.specimen.gyro @ rates.T
    np.testing.assert_allclose(moving[:, :3], expected.T, atol=0.021)  # half a count of the sensor


CUT_WITH_THE_NEXT_CHUNK = """
    const { send } = WebSocket.prototype;
    WebSocket.prototype.send = function (data) {
        WebSocket.prototype.send = send;
        this.send(data);
        document.querySelector('#cut').click();
    };
"""  # so that the answer of this chunk is lost


@needs_chromium
def test_a_connection_that_is_cut_goes_on_without_a_jump(window: Browser, server: Server, client: httpx.Client) -> None:
    """The answers of both connections equal those for the whole signal in one call."""
    window.open(f"{server.url}/?seed=2")
    window.wait(answered(window, 60), "samples are answered")
    window.note("#status")
    window.run(CUT_WITH_THE_NEXT_CHUNK)
    window.wait_until_said("Connection cut")
    window.wait_for("#status", "each that was sent, once")
    steps = at_rest(window)
    assert window.number("#resent") >= 1
    stream = client.get(f"/streams/{window.text('#stream-id')}").json()
    assert (stream["steps"], stream["seq"]) == (steps, window.number("#chunks"))
    (window.downloads / "recurve.csv").unlink(missing_ok=True)
    window.click("#save")
    names, rows = rows_of(window.downloaded("recurve.csv"))
    assert names == [
        "time", "gyro_x", "gyro_y", "gyro_z", "accel_x", "accel_y", "accel_z",
        "true_rate_x", "true_rate_y", "true_rate_z", "rate_x", "rate_y", "rate_z",
    ]  # fmt: skip
    assert len(rows) == steps
    (whole,) = client.post("/predict", json={"instances": [rows[:, 1:7].tolist()]}).json()["predictions"]
    np.testing.assert_allclose(rows[:, 10:], whole, rtol=1e-4, atol=1e-4)


@needs_chromium
def test_a_stream_that_is_gone_begins_anew_and_says_so(window: Browser, server: Server, client: httpx.Client) -> None:
    """A stream may expire while the page is in the background."""
    window.open(server.url)
    window.wait(answered(window, 20), "samples are answered")
    first, before = window.text("#stream-id"), window.number("#answered")
    assert client.delete(f"/streams/{first}").status_code == 204
    window.wait(lambda: window.text("#stream-id") != first, "there is another stream")
    window.wait(answered(window, int(window.number("#answered")) + 50), "it goes on")
    steps = at_rest(window)
    assert 0 < client.get(f"/streams/{window.text('#stream-id')}").json()["steps"] <= steps - before  # without the first stream's


@needs_chromium
def test_a_stream_goes_on_after_the_server_was_started_again(window: Browser, models: Path, tmp_path: Path) -> None:
    """The stream keeps the version that it began with; a new stream begins with the newest, which was published meanwhile."""
    flags = ["--workers", "1", "--data-dir", str(tmp_path / "data"), "--port"]
    later = tmp_path / "models/gyro-denoiser"
    for version in ("1", "2"):
        shutil.copytree(models / "gyro-denoiser/1", later / version)
    manifest = json.loads((later / "2/manifest.json").read_text())
    (later / "2/manifest.json").write_text(json.dumps(manifest | {"version": "2"}))
    with ExitStack() as servers:
        first = servers.enter_context(serve(models, *flags, "0"))
        window.open(first.url)
        window.wait(answered(window, 60), "samples are answered")
        stream = window.text("#stream-id")
        first.stop()
        window.wait_for("#status", "Connection lost")
        servers.enter_context(serve(later.parent, *flags, first.url.rpartition(":")[2]))
        window.wait_for("#status", "each that was sent, once")
        steps = at_rest(window)
        assert window.text("#stream-id") == stream
        assert httpx.get(f"{first.url}/streams/{stream}").json()["steps"] == steps
        httpx.delete(f"{first.url}/streams/{stream}")
        window.click("#pause")
        window.wait_for("#provider", "gyro-denoiser 2")
        assert httpx.get(f"{first.url}/streams/{window.text('#stream-id')}").json()["version"] == "2"


@needs_chromium
def test_a_recording_is_streamed_by_the_names_of_its_columns(
    window: Browser, server: Server, client: httpx.Client, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    features = np.round(rng.normal(size=(300, 6)), 3)
    order = [5, 0, 4, 1, 3, 2]
    names = ["gyro_x", "gyro_y", "gyro_z", "accel_x", "accel_y", "accel_z"]
    lines = [",".join(["t", *(names[place] for place in order)])]
    lines += [f"{index / 200},{','.join(str(row[place]) for place in order)}" for index, row in enumerate(features)]
    (tmp_path / "ride.csv").write_text("\n".join(lines))
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    window.open(server.url)
    window.wait(answered(window, 10), "the sensor streams")
    window.find("#load-file").send_keys(str(tmp_path / "other.csv"))
    window.wait_for("#status", "The columns gyro_x, gyro_y, gyro_z, accel_x, accel_y, accel_z are not there; it has a, b.")
    window.note("#status")
    window.find("#load-file").send_keys(str(tmp_path / "ride.csv"))
    window.wait_until_said("Streaming ride.csv, 300 rows, at 200 Hz; the model was trained at 100 Hz.")
    window.wait_for("#status", "All 300 rows are answered")
    (window.downloads / "recurve.csv").unlink(missing_ok=True)
    window.click("#save")
    _, rows = rows_of(window.downloaded("recurve.csv"))
    assert rows[-1, 0] == pytest.approx(299 / 200)
    np.testing.assert_allclose(rows[:, 1:7], features, rtol=1e-6)
    (whole,) = client.post("/predict", json={"instances": [features.tolist()]}).json()["predictions"]
    np.testing.assert_allclose(rows[:, 7:], whole, rtol=1e-4, atol=1e-4)
    assert not window.find("#figure-error").is_displayed()  # the true values are not known


def hourly(folder: Path, *, dated: bool) -> Path:
    """A month of hourly rows for the regressor, with their true values."""
    names = [*(["date"] if dated else []), *(each.name for each in page_models.LOADS), "oil"]
    times = [str(np.datetime64("2024-02-01T00:00") + index).replace("T", " ") for index in np.arange(0, 43_200, 60)]
    lines = [",".join([*([time] if dated else []), f"{place / 720:.4f},0.1,0.2,0.3,20"]) for place, time in enumerate(times)]
    path = folder / f"{'dated' if dated else 'bare'}.csv"
    path.write_text("\n".join([",".join(names), *lines]))
    return path


@needs_chromium
@pytest.mark.parametrize("dated", [True, False], ids=["dates", "no-time"])
def test_a_slow_recording_is_played_faster_than_it_was_made(window: Browser, server: Server, tmp_path: Path, dated: bool) -> None:
    """A month of hours in half a minute; the page shows the speed, and the rate slider sets it."""
    path = hourly(tmp_path, dated=dated)
    window.open(server.url)
    window.wait(answered(window, 10), "the sensor streams")
    window.choose("#live-model", "oil-temperature")
    window.find("#load-file").send_keys(str(path))
    told = window.wait_for("#status", f"Streaming {path.name}, 720 rows, one every 1 h. It is played at")
    assert "It is played at 89,000 \u00d7 real time" in told
    window.wait_for("#rate-value", "89,000 \u00d7 real time")
    window.wait(answered(window, 24), "rows are answered")
    window.set("#rate", 0)
    window.wait_for("#rate-value", "3,600 \u00d7 real time")
    window.set("#rate", 100)
    window.wait_for("#rate-value", "1,700,000 \u00d7 real time")
    window.wait_for("#status", "All 720 rows are answered")
    window.choose("#live-model", "gyro-denoiser")
    window.wait_for("#rate-value", "100 Hz")
    window.wait(answered(window, 10), "the sensor streams")
    assert window.complaints() == []


@needs_chromium
def test_an_axis_of_time_is_marked_in_the_unit_that_suits_it(window: Browser, server: Server) -> None:
    window.open(server.url)
    script = """
        const done = arguments[0];
        import(document.querySelector('script[type=module]').src.replace('main.js', 'spans.js')).then(({ place, INCREMENTS }) =>
            done([[3.5, 0.5], [90, 30], [5400, 1800], [129_600, 43_200], [34_560_000, 8_640_000]].map(([at, increment]) => {
                if (!INCREMENTS.includes(increment)) throw new Error(increment);
                return place(at, increment);
            })));
    """
    assert window.driver.execute_async_script(script) == ["3.5 s", "90 s", "90 min", "36 h", "400 d"]


@needs_chromium
def test_what_another_model_said_is_not_left_standing(window: Browser, server: Server, tmp_path: Path) -> None:
    """A model without a sensor waits for a recording, without the plot, error or provider of the one before; columns stay level."""
    window.open(server.url)
    window.wait_for("#provider", "gyro-denoiser")
    window.choose("#live-model", "oil-temperature")
    window.wait_for("#status", "Drop a CSV with the columns load, wind, pressure, ambient here.")
    assert [window.text(f"#{each}") for each in ("plots", "provider", "p50", "answered", "stream-id")] == [
        "",
        "\u2013",
        "\u2013",
        "0",
        "\u2013",
    ]
    for each in ("#figures", "#scene .legend", "#noise", "#rate"):
        assert not window.find(each).is_displayed(), each
    window.find("#load-file").send_keys(str(hourly(tmp_path, dated=True)))
    window.wait(answered(window, 10), "rows are answered")
    assert not window.find("#figures").is_displayed()  # without the model, there is no error to compare with
    assert window.find("#scene").rect["y"] == window.find(".controls").rect["y"]


@needs_chromium
def test_each_model_is_asked_and_its_answer_shown(window: Browser, server: Server, client: httpx.Client) -> None:
    """The command beside the answer gives the same."""
    window.open(f"{server.url}/#/predict")
    window.command("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"], origin=server.url)
    shown = {
        "gyro-denoiser": ("rate_x, deg/s", 3, "what was sent"),
        "load-forecaster": ("load, MW", 2, "quantiles 0.1 to 0.9"),
        "activity-classifier": ("probability of each class", 1, "walk"),
    }
    for model, (title, plots, legend) in shown.items():
        window.choose("#predict-model", model)
        window.wait_for("#predict-status", f"answered by {model} 1 on CPUExecutionProvider")
        assert title in window.text("#answers")
        assert legend in window.text("#predict-legend")
        assert len(window.run("return [...document.querySelectorAll('#answers canvas')]")) == plots
        window.click("#copy")
        window.wait_for("#copy", "Copied")
        command = window.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
        sent = json.loads(re.search(r"--data-binary '(.*)'$", command)[1])  # type: ignore[index]  # it is there
        assert sent["model"] == model
        told = json.loads(subprocess.check_output(["sh", "-c", command]))
        assert told["predictions"] == client.post("/predict", json=sent).json()["predictions"]
    assert "rest" in window.text(".bars")
    assert window.complaints() == []


PASTED = {
    "temperature,load\n" + "\n".join("15,50" for _ in range(96)): "96 steps answered",
    json.dumps([{"load": 50, "temperature": 15}] * 96): "96 steps answered",
    json.dumps({"instances": [[[50, 15]] * 96]}): "96 steps answered",
    "load,temperature\n1,2\n": "expected exactly 96 time steps",
    "load,wind\n1,2\n": "The column temperature is not there; it has load, wind.",
    "load,temperature\n1,2\n\n1,\n": "Row 4, temperature: there is no number. Fill it in, or leave the row out",
    "load,temperature\n1,warm\n": 'Row 2, temperature: expected a number, got "warm"',
    "[[1, 2]": "It is not valid JSON",
    "": "There is no sequence yet",
}


GAPS = {
    "load,wind,pressure,ambient\n1,2,3,4\n1,,-999,4\n,NA,3,4\n": "3 steps answered by oil-temperature 1 on CPUExecutionProvider",
    "load,wind,pressure,ambient\n1,2,,4\n1,2,3,4\n": "1 row is left out at the beginning, before all columns had a value.",
    "load [MW],wind,pressure (bar),Ambient [degC]\n1,2,3,4\n": "1 step answered",
    "load;wind;pressure;ambient\nMW;m/s;bar;degC\n1,5;2;3;4\n1,5;2;3;4\n": "2 steps answered",
    "load,wind,pressure,ambient\n,,,\n": "It has a heading, and no rows.",
    "load,wind,pressure,ambient\n1,,,\n": "In no row all columns have had a value.",
}


def pasted(window: Browser, server: Server, model: str, texts: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Ask the model for each text. Yields the text, the words that the status must contain, and the status."""
    window.open(f"{server.url}/#/predict")
    window.wait(lambda: model in window.text("#predict-model"), "the models are there")
    window.choose("#predict-model", model)
    for text, told in texts.items():
        window.run("document.querySelector('#predict-status').textContent = ''")  # otherwise it may still show the answer before
        window.click("#example")
        window.wait_for("#predict-status", f"answered by {model}")
        window.run("document.querySelector('#sequence').value = arguments[0]", text)
        window.click("#ask")
        yield text, told, window.wait_for("#predict-status", told)


@needs_chromium
def test_tables_are_read_as_in_training(window: Browser, server: Server) -> None:
    """Units in the header, decimal commas, and gaps, which are filled with the value before if training did so."""
    for text, told, said in pasted(window, server, "oil-temperature", GAPS):
        assert ("4 empty cells are filled with the value before, as in training." in said) == ("NA" in text)
        if told == "2 steps answered":
            assert '"instances":[[[1.5,2,3,4],[1.5,2,3,4]]]' in window.text("#command")


LATE_EXAMPLE = """
    const { fetch } = window;
    window.fetch = (url, ...more) => {
        if (!String(url).includes("/example")) return fetch(url, ...more);
        return window.example = new Promise((go) => { window.go = go; }).then(() => fetch(url, ...more));
    };
"""


@needs_chromium
def test_an_example_that_comes_late_does_not_take_the_place_of_what_was_asked_since(
    window: Browser, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "book.xlsx").write_bytes(b"PK\x03\x04\x14\0")
    window.open(f"{server.url}/#/predict")
    window.wait_for("#predict-status", "answered")
    window.run(LATE_EXAMPLE)
    window.choose("#predict-model", "oil-temperature")
    window.find("#upload-file").send_keys(str(tmp_path / "book.xlsx"))
    told = window.wait_for("#predict-status", "book.xlsx: It is an Excel workbook")
    come = "const [done] = arguments; go(); example.then((answer) => answer.clone().text()).then(() => setTimeout(done))"
    window.driver.execute_async_script(come)
    assert (window.text("#predict-status"), window.run("return document.querySelector('#sequence').value")) == (told, "")


@needs_chromium
def test_a_file_that_is_no_text_is_told_so(window: Browser, server: Server, tmp_path: Path) -> None:
    """On both panels; text in another encoding is read all the same."""
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (tmp_path / "book.xlsx").write_bytes(b"PK\x03\x04\x14\0")
    (tmp_path / "wide.csv").write_text("load,wind,pressure,ambient\n1,2,3,4\n", encoding="utf-16")
    (tmp_path / "old.csv").write_bytes("load,wind,pressure,ambient,\u00b0C\n1,2,3,4,5\n".encode("latin-1"))
    window.open(server.url)
    window.wait(answered(window, 10), "the sensor streams")
    window.find("#load-file").send_keys(str(tmp_path / "a.png"))
    window.wait_for("#status", "a.png: It is no text: export the table as CSV.")
    window.click("#tab-predict")
    window.choose("#predict-model", "oil-temperature")
    told = {
        "book.xlsx": "book.xlsx: It is an Excel workbook or another ZIP archive: save the sheet as CSV.",
        "wide.csv": "1 step answered",
        "old.csv": "1 step answered",
    }
    for name, expected in told.items():
        window.run("document.querySelector('#predict-status').textContent = ''")
        window.find("#upload-file").send_keys(str(tmp_path / name))
        window.wait_for("#predict-status", expected)


@needs_chromium
def test_gaps_in_a_recording_are_filled_and_told(window: Browser, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "gaps.csv"
    rows = [f"{index},1,2,{'' if index % 10 else 3},{'' if index == 7 else 20}" for index in range(100)]
    path.write_text("\n".join(["load,wind,ambient,pressure [bar],oil", *rows]))
    window.open(server.url)
    window.wait(answered(window, 10), "the sensor streams")
    window.choose("#live-model", "oil-temperature")
    window.find("#load-file").send_keys(str(path))
    window.wait_for(
        "#status", "100 rows, one every 1 h. 90 empty cells are filled with the value before, as in training. It is played"
    )
    window.wait_for("#status", "All 100 rows are answered")


@needs_chromium
def test_what_is_pasted_is_read_or_refused_with_the_reason(window: Browser, server: Server) -> None:
    assert len([*pasted(window, server, "load-forecaster", PASTED)]) == len(PASTED)


@needs_chromium
def test_the_tabs_are_worked_with_the_keyboard(window: Browser, server: Server) -> None:
    window.open(server.url)
    live, predict = window.find("#tab-live"), window.find("#tab-predict")
    live.send_keys(Press.ARROW_RIGHT)
    assert window.driver.switch_to.active_element == predict
    assert (predict.get_attribute("aria-selected"), live.get_attribute("tabindex")) == ("true", "-1")
    assert (window.find("#predict").is_displayed(), window.find("#live").is_displayed()) == (True, False)
    predict.send_keys(Press.ARROW_RIGHT)
    assert window.find("#live").is_displayed()
    live.send_keys(Press.END)
    assert window.find("#predict").is_displayed()
    predict.send_keys(Press.HOME)
    assert window.driver.switch_to.active_element == live
    live.send_keys(Press.TAB)
    assert window.driver.switch_to.active_element.get_attribute("href").endswith("/docs")


@needs_chromium
def test_everything_that_is_worked_has_a_name(window: Browser, server: Server) -> None:
    """Screen readers say these names."""
    window.open(server.url)
    for panel in ("#live", "#predict"):
        window.click(f"#tab-{panel.removeprefix('#')}")
        window.wait(lambda panel=panel: window.find(panel).is_displayed(), "the panel is shown")
        for element in window.run("return [...document.querySelectorAll('button, input, select, textarea, a')]"):
            if element.is_displayed():
                assert element.accessible_name, element.get_attribute("outerHTML")


@needs_chromium
@pytest.mark.parametrize("width", [320, 360, 390, 800, 1440])
def test_no_width_makes_the_page_scroll_sideways(window: Browser, server: Server, width: int) -> None:
    window.open(server.url, width=width, height=740)
    window.wait(answered(window, 10), "samples are answered")
    assert window.run("return document.documentElement.scrollWidth") == width
    window.click("#tab-predict")
    window.choose("#predict-model", "activity-classifier")
    window.wait_for("#predict-status", "answered")
    assert window.run("return document.documentElement.scrollWidth") == width


@needs_chromium
@pytest.mark.parametrize("width", [320, 480, 640, 1000, 1440])
def test_no_width_makes_texts_run_into_each_other(window: Browser, server: Server, width: int) -> None:
    """Also where they are longest."""
    window.open(server.url, width=width, height=740)
    window.wait(lambda: "\u00d7" in window.text("#error-gain"), "the errors are compared")
    window.set("#noise", 9.5)
    window.run("for (const each of document.querySelectorAll('.gain')) each.innerHTML = each.innerHTML.replace(/[0-9.]+/, 100)")
    reach = """return [...document.querySelectorAll(".sliders label, .gain")].filter((each) => {
        const text = document.createRange();
        text.selectNodeContents(each);
        return text.getBoundingClientRect().right > each.getBoundingClientRect().right + 0.5;
    }).map((each) => each.textContent)"""
    assert window.run(reach) == []


@needs_chromium
def test_it_is_dark_where_the_system_is_and_the_button_is_remembered(window: Browser, server: Server) -> None:
    colour = "return getComputedStyle(document.body).backgroundColor"
    window.open(server.url)
    light = window.run(colour)
    window.open(server.url, dark=True)
    dark = window.run(colour)
    assert light != dark
    window.click("#theme")
    assert window.run(colour) == light
    window.driver.refresh()
    assert window.run(colour) == light
    assert window.find("#theme").get_attribute("aria-pressed") == "false"


@needs_chromium
def test_a_service_with_keys_is_asked_with_one(window: Browser, keyed: Server) -> None:
    window.open(keyed.url)
    give(window, "one-that-nobody-knows")
    give(window, READER)
    window.wait(answered(window, 30), "samples are answered")
    window.driver.refresh()
    window.wait(answered(window, 10), "the key is kept for the tab")


def give(window: Browser, key: str) -> None:
    """Type a key into the dialog when it appears."""
    window.wait(lambda: window.find("#key").is_displayed() and not window.find("#key").get_property("value"), "it asks for a key")
    window.find("#key").send_keys(key, Press.ENTER)


@needs_chromium
def test_a_key_with_a_rate_is_asked_no_more_often_than_it_allows(window: Browser, keyed: Server) -> None:
    """The page sends longer chunks instead."""
    window.open(keyed.url)
    give(window, SLOW)
    window.wait(answered(window, 250), "samples are answered")
    assert window.number("#chunks") < 100


def test_the_documentation_tells_of_the_websockets(client: httpx.Client) -> None:
    """OpenAPI has no way to describe them, so /docs would show nothing of the way that live signals are meant to go."""
    description = client.get("/openapi.json").json()["info"]["description"]
    for words in ("WS /streams/{id}/ws", "WS /streams/ws", "docs/api.md"):
        assert words in description


def test_the_members_of_the_example_are_documented(client: httpx.Client) -> None:
    paths: dict[str, Any] = client.get("/openapi.json").json()["paths"]
    assert {"/models", "/models/{model}", "/models/{model}/example"} < paths.keys()
    assert not {path for path in paths if path == "/" or path.startswith("/assets")}
