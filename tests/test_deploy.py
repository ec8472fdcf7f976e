"""The files that operators deploy: rules, dashboard and manifests match the real service, and the tools accept them."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app import errors
from app.configuration import COMPOSE
from app.http.arrivals import LAST
from app.http.server import WRITING
from app.metrics import Executed, Metrics
from app.settings import Settings
from tests.servers import ROOT, Server, serve

DEPLOY = ROOT / "deploy"
PROMETHEUS, KUBERNETES, KSERVE = DEPLOY / "prometheus", DEPLOY / "kubernetes", DEPLOY / "kserve"
OVERLAYS = ("base", "overlays/redis", "overlays/gpu")
CLUSTERS = ("1.30", "1.37")  # the oldest version that is named, and the newest known

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool on the PATH")
needs_kustomize = pytest.mark.skipif(shutil.which("kustomize") is None, reason="there is no kustomize on the PATH")

Manifest = dict[str, Any]


def documents(path: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(path.read_text()))


# ------------------------------------------------------------------------------------------------------------ Prometheus

RULES: list[dict[str, Any]] = [rule for group in documents(PROMETHEUS / "rules.yml")[0]["groups"] for rule in group["rules"]]
SCRAPED = documents(PROMETHEUS / "prometheus.yml")[0]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDS = {rule["record"] for rule in RULES if "record" in rule}
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/recurve.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = {f"{panel['title']}, {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]}
VARIABLES = [variable for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]
(ADAPTER,) = documents(KUBERNETES / "prometheus-adapter.yaml")[0]["rules"]["custom"]

GIVEN_BY_PROMETHEUS = {"job", "instance", "namespace", "pod"}  # labels that the service does not set itself
GROUPING = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")


def exposed() -> dict[str, list[dict[str, str]]]:
    """Every sample name that the service can expose -> the labels of its series, after each metric was counted once."""
    metrics = Metrics()
    metrics.answered("/predict", 200, [0.01], model=("m", "1"))
    metrics.refused("queue-full")
    metrics.versions_refused({"m": 1})
    counts = metrics.model("m", "1", lanes=2)
    counts.runs_on("CPUExecutionProvider", fallback=True)
    counts.ran([Executed(2, steps=4, padded=6, seconds=0.01, waited=0.01, provider="CPUExecutionProvider")], waiting=1)
    metrics.streams.ended.labels("expired").inc()
    metrics.build.labels("0.1.0", "1.31.1").set(1)
    metrics.certificate.labels("/tls/tls.crt").set(1)
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                found.setdefault(sample.name, []).append(sample.labels)
    return found


EXPOSED = exposed()


def without_texts(expression: str) -> str:
    """The expression with its strings emptied, so that their contents are not taken for names."""
    return re.sub(r'"[^"]*"', '""', expression)


def names_in(expression: str) -> set[str]:
    """The metrics in the expression: names that are not functions, keywords or labels."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]", " ", GROUPING.sub(" ", without_texts(expression)))
    names = {name for name, call in re.findall(r"(?<![\w:.])([a-zA-Z_:][\w:]*)\s*(\()?", bare) if not call}
    return names - {"and", "or", "unless", "offset", "bool"}


def selected_labels(expression: str) -> Iterator[tuple[str, str]]:
    """Each metric in the expression with each label that its selector names."""
    for name, selector in re.findall(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}", without_texts(expression)):
        for label in re.findall(r"(\w+)\s*[!=]", selector):
            yield name, label


def expressions() -> dict[str, str]:
    """All PromQL expressions under deploy/, by their place."""
    found = {rule.get("alert") or rule["record"]: rule["expr"] for rule in RULES} | QUERIES
    for variable in VARIABLES:
        found[f"${variable['name']}"], label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()
        assert label == variable["name"]
    query = ADAPTER["metricsQuery"].replace("<<.LabelMatchers>>", "").replace("<<.GroupBy>>", "pod")
    return found | {"adapter": query, "adapter, series": ADAPTER["seriesQuery"]}


def test_every_metric_that_is_asked_for_exists() -> None:
    """A query for a name that does not exist gives an empty panel, or an alert that never fires."""
    for place, expression in expressions().items():
        names = names_in(expression)
        assert names, place
        assert names <= EXPOSED.keys() | RECORDS | {"up"}, place


def test_every_label_that_is_asked_for_exists() -> None:
    known = GIVEN_BY_PROMETHEUS.union(*(labels for series in EXPOSED.values() for labels in series))
    for place, expression in expressions().items():
        for labels in GROUPING.findall(without_texts(expression)):
            assert set(re.findall(r"\w+", labels)) <= known, place
        for name, label in selected_labels(expression):
            has = set().union(*EXPOSED[name]) if name in EXPOSED else known
            assert label in has | GIVEN_BY_PROMETHEUS, (place, name)


def test_every_reason_that_is_asked_for_exists() -> None:
    """The reasons are written in two places: in app.errors and in the rules."""
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.RecurveError)]
    refusals = {each.code for each in kinds if issubclass(each, errors.Unavailable)} - {errors.Unavailable.code}
    texts = " ".join(rule["expr"] for rule in RULES)
    own_alert = set(re.findall(r'reason="([^"]+)"', texts))
    (not_ours,) = {tuple(each.split("|")) for each in re.findall(r'reason!~"([^"]+)"', texts)}
    assert own_alert <= refusals
    assert set(not_ours) <= {each.code for each in kinds} - refusals
    told = ALERTS["RecurveRefusing"]["annotations"]["description"]
    assert {reason for reason in refusals if re.search(rf"(?<![\w:-]){reason}(?![\w-])", told)} == refusals - own_alert


def test_every_alert_says_what_to_do() -> None:
    for name, alert in ALERTS.items():
        assert alert["labels"]["severity"] in ("critical", "warning"), name
        assert alert["annotations"].keys() == {"summary", "description"}, name
        settings = re.findall(r"RECURVE_([A-Z_]+)", alert["annotations"]["description"])
        assert {setting.lower() for setting in settings} <= Settings.model_fields.keys(), name


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    fires, silent = set(), set()
    for case in documents(PROMETHEUS / "tests.yml")[0]["tests"]:
        for test in case.get("alert_rule_test", ()):
            (fires if test["exp_alerts"] else silent).add(test["alertname"])
    assert fires == silent == ALERTS.keys()


def promtool(*arguments: str, text: str | None = None) -> None:
    result = subprocess.run(["promtool", *arguments], cwd=PROMETHEUS, input=text, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@needs_promtool
@pytest.mark.parametrize(
    "what", [("check", "config", "prometheus.yml"), ("check", "rules", "rules.yml"), ("test", "rules", "tests.yml")]
)
def test_promtool_accepts(what: tuple[str, ...]) -> None:
    """The last command runs the tests of the alerts."""
    promtool(*what)


@needs_promtool
def test_every_query_of_the_dashboard_has_an_answer(tmp_path: Path) -> None:
    """Prometheus' own engine runs every query over series with the names and labels that the service exposes."""
    series = [
        {"series": f"{name}{{{', '.join(f'{key}={json.dumps(value)}' for key, value in labels.items())}}}", "values": "1+1x60"}
        for name, each in {**EXPOSED, "up": [{}]}.items()
        for labels in ({"job": "recurve", "instance": "a", **labels} for labels in each)
    ]
    answered = [
        {
            "expr": f"count(({re.sub(r'[$](job|model|version)', '.+', query)}) > -Inf) > bool 0",  # the comparison drops NaN
            "eval_time": "12m",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for query in QUERIES.values()
    ]
    test = {"interval": "15s", "input_series": series, "promql_expr_test": answered}
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(PROMETHEUS / "rules.yml")], "tests": [test]}))
    promtool("test", "rules", str(path))


# --------------------------------------------------------------------------------------------------------------- Grafana


def test_the_dashboard_is_laid_out() -> None:
    """No two panels may share an id or a place, and each must use the chosen data source."""
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Traffic", "Latency", "Batching", "Queue and refusals", "Streams", "Providers"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        x, y, w, h = (panel["gridPos"][key] for key in "xywh")
        cells = {(column, line) for column in range(x, x + w) for line in range(y, y + h)}
        assert x + w <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in PANELS:
        assert panel["datasource"] == chosen
        assert all(target["datasource"] == chosen for target in panel["targets"])
    assert {variable["name"] for variable in DASHBOARD["templating"]["list"]} == {"datasource", "job", "model", "version"}


def test_what_is_of_a_model_follows_the_chosen_model_and_version() -> None:
    for place, query in QUERIES.items():
        for name, selector in re.findall(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}", query):
            labels = EXPOSED[name][0].keys() if name in EXPOSED else re.findall(r"\w+", without_texts(grouping_of(name)))
            wanted = ["job", "model", "version"] if "model" in labels else ["job"]
            assert re.findall(r'(\w+)=~"\$\1"', selector) == wanted, place


def grouping_of(record: str) -> str:
    """The expression of a recorded metric and of those it is made of, which show what it is grouped by."""
    if record not in RECORDS:
        return ""
    (expression,) = (rule["expr"] for rule in RULES if rule.get("record") == record)
    return expression + "".join(grouping_of(name) for name in names_in(expression))


def test_grafana_finds_its_dashboard_and_its_data_source() -> None:
    provisioning = DEPLOY / "grafana/provisioning"
    (source,) = documents(provisioning / "datasources/prometheus.yml")[0]["datasources"]
    assert (source["type"], source["access"]) == ("prometheus", "proxy")
    assert source["jsonData"]["timeInterval"] == SCRAPED["global"]["scrape_interval"]
    (provider,) = documents(provisioning / "dashboards/recurve.yml")[0]["providers"]
    assert provider["type"] == "file"
    assert (DEPLOY / "grafana" / Path(provider["options"]["path"]).name / "recurve.json").exists()


# ---------------------------------------------------------------------------------------------------------------- Compose

COMPOSE_FILE = documents(ROOT / "docker-compose.yml")[0]
SERVICES: dict[str, Manifest] = COMPOSE_FILE["services"]
# The services that answer requests: those with our images that do not replace the program.
OURS = {name for name, each in SERVICES.items() if each["image"].startswith("recurve:") and "entrypoint" not in each}


def on_the_host(service: str, path: str) -> Path:
    """The path on the host of a mounted path in a container of the service."""
    for mount in SERVICES[service]["volumes"]:
        source, target = mount.split(":")[:2]
        if source.startswith("./") and Path(path).is_relative_to(target):
            return ROOT / source / Path(path).relative_to(target)
    raise AssertionError(f"{path} of {service} is mounted from nowhere")


def test_what_monitors_finds_its_files_where_they_are_mounted() -> None:
    """Prometheus' image reads prometheus.yml in /etc/prometheus, and Grafana's image provisions itself from /etc/grafana."""
    config = on_the_host("prometheus", "/etc/prometheus/prometheus.yml")
    for file in documents(config)[0]["rule_files"]:
        assert (config.parent / file).is_file()

    assert documents(on_the_host("grafana", "/etc/grafana/provisioning/datasources/prometheus.yml"))[0]["datasources"]
    (provider,) = documents(on_the_host("grafana", "/etc/grafana/provisioning/dashboards/recurve.yml"))[0]["providers"]
    dashboard = DEPLOY / "grafana/dashboards/recurve.json"
    assert on_the_host("grafana", provider["options"]["path"]) == dashboard.parent
    assert on_the_host("grafana", SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]) == dashboard


def test_what_monitors_asks_services_of_compose() -> None:
    """By their Docker DNS names, Prometheus must scrape every service that answers requests, and the dashboard ask Prometheus."""
    jobs = SCRAPED["scrape_configs"]
    places = [(name, asked["port"]) for job in jobs for asked in job["dns_sd_configs"] for name in asked["names"]]
    (port,) = re.findall(r"^EXPOSE (\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert sorted(places) == [(name, int(port)) for name in sorted(OURS)]
    assert {"recurve", "gpu", "replica"} == OURS
    (source,) = documents(DEPLOY / "grafana/provisioning/datasources/prometheus.yml")[0]["datasources"]
    name, port = re.fullmatch(r"http://(\w+):(\d+)", source["url"]).groups()
    assert [mapping.rpartition(":")[2] for mapping in SERVICES[name]["ports"]] == [port]


def test_the_jobs_are_those_that_the_alerts_speak_of() -> None:
    jobs = {job["job_name"] for job in SCRAPED["scrape_configs"]}
    spoken = [set(names.split("|")) for rule in RULES for names in re.findall(r'job=~"([^"$]+)"', rule["expr"])]
    assert spoken
    assert all(names == jobs for names in spoken)


def test_compose_starts_one_service_unless_a_profile_is_named() -> None:
    """Above all, nothing may start that reserves a GPU: Docker cannot start it on a host without one."""
    assert [name for name, each in SERVICES.items() if "profiles" not in each] == ["recurve"]
    assert [name for name in SERVICES if "nvidia" in json.dumps(SERVICES[name])] == ["gpu"]
    different = {key for key in SERVICES["gpu"] if SERVICES["gpu"][key] != SERVICES["recurve"].get(key)}
    assert different == {"profiles", "build", "image", "deploy"}
    assert SERVICES["gpu"].keys() - SERVICES["recurve"].keys() == {"profiles", "deploy"}


def test_services_read_the_hosts_models_and_look_for_new_ones() -> None:
    """What is exported is served without a new image; the repository is where the image has its own."""
    assert on_the_host("recurve", "/recurve/model") == ROOT / Settings.model_fields["model_dir"].default
    assert re.findall(r"^WORKDIR (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[-1] == "/recurve"
    for name in OURS:
        assert "./model:/recurve/model:ro" in SERVICES[name]["volumes"], name
        assert SERVICES[name]["environment"]["RECURVE_MODEL_POLL_SECONDS"] == "${RECURVE_MODEL_POLL_SECONDS:-10}", name


def test_containers_have_no_rights() -> None:
    for name in OURS | {"prometheus", "grafana", "state-key", "train"}:
        service = SERVICES[name]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert ("user" in service, "cap_add" in service) == (name == "train", name == "train"), name
    # it switches to the user that owns its mounts, and needs only the rights for that
    assert set(SERVICES["train"]["cap_add"]) == {"CHOWN", "SETGID", "SETUID"}
    assert SERVICES["train"]["network_mode"] == "none"


def test_images_are_of_targets_and_of_pinned_tags() -> None:
    targets = re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for name, service in SERVICES.items():
        image, _, tag = service["image"].partition(":")
        assert tag not in ("", "latest"), name
        if image == "recurve":
            assert service["build"] == {"context": ".", "target": tag}
            assert tag in targets
    assert targets[-1] == "cpu"  # the last target is what `docker build .` builds


def test_ports_are_published_on_this_machine_alone_unless_a_variable_says_otherwise() -> None:
    """The service must know these variables too: it does not start with a variable in .env that it takes for a typing error."""
    published = [mapping for service in SERVICES.values() for mapping in service.get("ports", ())]
    found = [re.fullmatch(r"\$\{(RECURVE_\w+):-127\.0\.0\.1:\d+\}:\d+", mapping) for mapping in published]
    assert {match[1] for match in found} == COMPOSE
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert used - {f"RECURVE_{name.upper()}" for name in Settings.model_fields} == COMPOSE


def test_every_volume_is_declared_and_used() -> None:
    mounted = {mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", ())}
    assert {source for source in mounted if not source.startswith(("./", "/"))} == COMPOSE_FILE["volumes"].keys()


# ------------------------------------------------------------------------------------------------------------ Kubernetes


def merged(base: Any, patch: Any) -> Any:
    """A strategic merge: lists of things with a name or a mount path are merged by it, other lists are replaced."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return {**base, **{key: merged(base.get(key), value) for key, value in patch.items()}}
    if isinstance(base, list) and isinstance(patch, list):
        for key in ("mountPath", "name"):
            if all(isinstance(each, dict) and key in each for each in [*base, *patch]):
                old = {each[key]: each for each in base}
                new = {each[key]: merged(old.get(each[key]), each) for each in patch}
                return [*(new[name] for name in new if name not in old), *(new.get(name, old[name]) for name in old)]
    return patch


def rendered(folder: Path) -> list[Manifest]:
    """The manifests that `kustomize build` makes of a folder, without the hash in the names of generated Secrets."""
    (kustomization,) = documents(folder / "kustomization.yaml")
    made: list[Manifest] = []
    for path in kustomization.pop("resources"):
        assert (folder / path).exists(), path
        made += rendered(folder / path) if (folder / path).is_dir() else documents(folder / path)
    for secret in kustomization.pop("secretGenerator", ()):
        assert secret.keys() == {"name", "files"}
        made.append({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": secret["name"]}})
    for patch in (each for entry in kustomization.pop("patches", ()) for each in documents(folder / entry["path"])):
        (index,) = (number for number, each in enumerate(made) if identity(each) == identity(patch))
        made[index] = merged(made[index], patch)
    tags = {image["name"]: image["newTag"] for image in kustomization.pop("images", ())}
    for container in (container for each in made for container in pod_of(each).get("containers", ())):
        name, _, _ = container["image"].partition(":")
        container["image"] = f"{name}:{tags[name]}" if name in tags else container["image"]
    assert kustomization.keys() == {"apiVersion", "kind"}, "the rest is not understood here"
    return made


def identity(manifest: Manifest) -> tuple[str, str, str]:
    return manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"]


def pod_of(manifest: Manifest) -> dict[str, Any]:
    """The pod that a Deployment or a StatefulSet makes; empty for other manifests."""
    return manifest["spec"]["template"]["spec"] if manifest["kind"] in ("Deployment", "StatefulSet") else {}


def labels_of(manifest: Manifest) -> dict[str, str]:
    return manifest["spec"]["template"]["metadata"]["labels"] if pod_of(manifest) else {}


def the(kind: str, manifests: list[Manifest], name: str = "recurve") -> Manifest:
    (found,) = (each for each in manifests if identity(each)[1:] == (kind, name))
    return found


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return rendered(KUBERNETES / request.param)


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_the_manifests_are_what_kubernetes_knows(manifests: list[Manifest], cluster: str) -> None:
    """The check is strict: a field that is not in the schema is an error."""
    for manifest in manifests:
        kubernetes_validate.validate(manifest, cluster, strict=True)


@needs_kustomize
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_makes_the_same_of_them(overlay: str, tmp_path: Path) -> None:
    """The manifests that these tests check must be those that a cluster gets."""
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    (tmp_path / "kubernetes/overlays/redis/state.key").write_text("0123456789abcdef")
    built = subprocess.check_output(["kustomize", "build", str(tmp_path / "kubernetes" / overlay)], text=True)
    theirs = list(yaml.safe_load_all(re.sub(r"(recurve-state-key)-\w+", r"\1", built)))
    for each in theirs:
        each.pop("data", None)
    assert {identity(each): each for each in theirs} == {identity(each): each for each in rendered(KUBERNETES / overlay)}


def test_pods_have_no_rights(manifests: list[Manifest]) -> None:
    pods = [pod_of(each) for each in manifests if pod_of(each)]
    assert pods
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            has_no_rights(container)


def has_no_rights(container: dict[str, Any]) -> None:
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_the_pod_is_what_the_image_expects(manifests: list[Manifest]) -> None:
    """The pod needs the image's user, the one folder that it writes to, and a target of the Dockerfile."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    pod = pod_of(the("Deployment", manifests))
    (container,) = pod["containers"]
    assert f"USER {pod['securityContext']['runAsUser']}\n" in dockerfile
    (volume,) = re.findall(r"^VOLUME (\S+)$", dockerfile, re.MULTILINE)
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert volumes.keys() == set(mounts.values())
    assert volumes[mounts[volume]]["emptyDir"] == {}
    assert container["image"].removeprefix("recurve:") in re.findall(r"^FROM \S+ AS (\w+)$", dockerfile, re.MULTILINE)


def test_the_service_has_the_time_to_finish_what_it_accepted(manifests: list[Manifest]) -> None:
    pod = pod_of(the("Deployment", manifests))
    (container,) = pod["containers"]
    (delay,) = (float(each["value"]) for each in container["env"] if each["name"] == "RECURVE_DRAIN_DELAY")
    assert "lifecycle" not in container
    has_time_to_finish(pod, delay)


def has_time_to_finish(pod: dict[str, Any], delay: float) -> None:
    drain = Settings.model_fields["drain_timeout"].default
    assert delay > 0
    assert pod["terminationGracePeriodSeconds"] >= delay + drain + LAST + WRITING


def test_the_environment_is_that_of_the_settings(manifests: list[Manifest]) -> None:
    """Nothing else may set variables: Kubernetes would set RECURVE_PORT to an address for a Service named `recurve`."""
    pod = pod_of(the("Deployment", manifests))
    assert pod["enableServiceLinks"] is False
    (container,) = pod["containers"]
    values = {each["name"].removeprefix("RECURVE_").lower(): each["value"] for each in container["env"]}
    assert values.keys() <= Settings.model_fields.keys()
    Settings(**{name: value for name, value in values.items() if not name.endswith("_file")})
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    for name, value in values.items():
        assert not name.endswith("_file") or str(Path(value).parent) in mounts


def test_the_documented_patch_mounts_a_repository_where_the_image_has_its_own(manifests: list[Manifest]) -> None:
    """It must fit every overlay, as the container of docker-compose.yml has its models."""
    (block,) = re.findall(r"^  ```yaml\n(.*?)^  ```$", (ROOT / "docs/operate.md").read_text(), re.MULTILINE | re.DOTALL)
    deployment = merged(the("Deployment", manifests), yaml.safe_load(block))
    for cluster in CLUSTERS:
        kubernetes_validate.validate(deployment, cluster, strict=True)
    pod = pod_of(deployment)
    (container,) = pod["containers"]
    (mount,) = (each for each in container["volumeMounts"] if each["name"] == "models")
    assert f"./model:{mount['mountPath']}:ro" in SERVICES["recurve"]["volumes"]
    assert mount["readOnly"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    values = {each["name"].removeprefix("RECURVE_").lower(): each["value"] for each in container["env"]}
    assert Settings(**{name: value for name, value in values.items() if not name.endswith("_file")}).model_poll_seconds == 10


def test_what_points_at_pods_finds_some(manifests: list[Manifest]) -> None:
    """A selector with a typing error selects nothing, without a message."""
    for manifest in manifests:
        spec = manifest.get("spec", {})
        selectors = {
            "Service": lambda spec: [spec["selector"]],
            "Deployment": lambda spec: [spec["selector"]["matchLabels"]],
            "StatefulSet": lambda spec: [spec["selector"]["matchLabels"]],
            "PodDisruptionBudget": lambda spec: [spec["selector"]["matchLabels"]],
            "NetworkPolicy": lambda spec: [spec["podSelector"]["matchLabels"], *peers(spec)],
        }.get(manifest["kind"], lambda _: [])(spec)
        for selector in selectors:
            assert any(selector.items() <= labels_of(each).items() for each in manifests if pod_of(each)), identity(manifest)
    ports = {port["name"] for each in manifests if pod_of(each) for port in pod_of(each)["containers"][0]["ports"]}
    for service in (each for each in manifests if each["kind"] == "Service"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def peers(policy: dict[str, Any]) -> list[dict[str, str]]:
    """The pods of its own namespace that a network policy allows as callers or targets."""
    sides = [peer for rule in policy["ingress"] for peer in rule["from"]] + [to for rule in policy["egress"] for to in rule["to"]]
    return [peer["podSelector"]["matchLabels"] for peer in sides if peer.get("podSelector")]


def test_the_replicas_share_one_redis_and_one_key() -> None:
    manifests = rendered(KUBERNETES / "overlays/redis")
    pod = pod_of(the("Deployment", manifests))
    values = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
    redis = the("Service", manifests, "recurve-redis")
    assert values["RECURVE_STREAM_STORE"] == f"redis://{redis['metadata']['name']}:{redis['spec']['ports'][0]['port']}/0"
    arguments = pod_of(the("StatefulSet", manifests, "recurve-redis"))["containers"][0]["args"]
    assert {"--appendonly": "yes", "--maxmemory-policy": "noeviction"}.items() <= dict(
        zip(arguments[::2], arguments[1::2], strict=True)
    ).items()
    (secret,) = (volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume)
    assert the("Secret", manifests, secret)
    (generated,) = documents(KUBERNETES / "overlays/redis/kustomization.yaml")[0]["secretGenerator"]
    name, _, file = generated["files"][0].partition("=")
    assert Path(values["RECURVE_STATE_KEY_FILE"]).name == name
    assert file in (KUBERNETES / "overlays/redis/.gitignore").read_text().split()


def test_the_autoscaler_asks_for_a_metric_that_the_adapter_gives() -> None:
    manifests = rendered(KUBERNETES / "overlays/redis")
    scaler = the("HorizontalPodAutoscaler", manifests)["spec"]
    target = the(scaler["scaleTargetRef"]["kind"], manifests, scaler["scaleTargetRef"]["name"])
    assert "replicas" not in target["spec"]  # otherwise each `kubectl apply` would undo the autoscaler's choice
    assert scaler["scaleTargetRef"]["apiVersion"] == target["apiVersion"]
    (asked,) = (metric["pods"]["metric"]["name"] for metric in scaler["metrics"] if metric["type"] == "Pods")
    assert asked == ADAPTER["name"]["as"]


def test_the_prometheus_operator_scrapes_every_pod_as_a_job_that_the_rules_know(manifests: list[Manifest]) -> None:
    (monitor,) = documents(KUBERNETES / "pod-monitor.yaml")
    assert identity(monitor) == ("monitoring.coreos.com/v1", "PodMonitor", "recurve")
    deployment = the("Deployment", manifests)
    labels = labels_of(deployment)
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert labels[monitor["spec"]["jobLabel"]] in {job["job_name"] for job in SCRAPED["scrape_configs"]}
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["interval"] == SCRAPED["global"]["scrape_interval"]
    assert endpoint["port"] in {port["name"] for port in pod_of(deployment)["containers"][0]["ports"]}


def test_the_documented_command_makes_a_prometheus_rule_of_the_rules(tmp_path: Path) -> None:
    """Run as it stands in the documentation, with a kubectl that shows what it is given."""
    stub = tmp_path / "kubectl"
    stub.write_text("#!/bin/sh\ncat\n")
    stub.chmod(0o755)
    (command,) = re.findall(
        r"^  (\{ printf .*?kubectl apply -f -)$", (ROOT / "docs/operate.md").read_text(), re.MULTILINE | re.DOTALL
    )
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    made = yaml.safe_load(subprocess.check_output(["sh", "-c", command], cwd=ROOT, env=environment, text=True))
    assert (made["apiVersion"], made["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert made["spec"] == documents(PROMETHEUS / "rules.yml")[0]


def test_a_gpu_is_held_by_one_pod_at_a_time() -> None:
    """With a rolling update, the new pod would wait for a GPU that the old one keeps until the new one is ready."""
    deployment = the("Deployment", rendered(KUBERNETES / "overlays/gpu"))["spec"]
    assert deployment["strategy"] == {"type": "Recreate"}
    assert deployment["replicas"] == 1
    assert deployment["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


# ---------------------------------------------------------------------------------------------------------------- KServe

# Fields that a ServingRuntime may have, as far as ours uses them: kserve/kserve, pkg/apis/serving/v1alpha1/servingruntime_types.go.
POD_FIELDS = {"containers", "volumes", "nodeSelector", "affinity", "tolerations", "imagePullSecrets", "hostIPC"}
RUNTIME_FIELDS = POD_FIELDS | {"labels", "annotations", "supportedModelFormats", "multiModel", "disabled", "protocolVersions"}

(RUNTIME,), (INFERENCE,) = documents(KSERVE / "serving-runtime.yaml"), documents(KSERVE / "inference-service.yaml")
(CONTAINER,) = RUNTIME["spec"]["containers"]
FLAGS = dict(argument.removeprefix("--").split("=") for argument in CONTAINER["args"])


def test_the_serving_runtime_is_what_kserve_knows() -> None:
    """KServe has no schema to install, so its own fields are listed here; the fields of a pod are Kubernetes'."""
    assert (RUNTIME["apiVersion"], RUNTIME["kind"]) == ("serving.kserve.io/v1alpha1", "ServingRuntime")
    spec = RUNTIME["spec"]
    assert spec.keys() <= RUNTIME_FIELDS
    predictor = dict(INFERENCE["spec"]["predictor"])
    model = predictor.pop("model")
    assert predictor.pop("minReplicas") == predictor.pop("maxReplicas") == 1
    pod = {key: value for key, value in spec.items() if key in POD_FIELDS} | predictor
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": RUNTIME["metadata"], "spec": pod}
    kubernetes_validate.validate(manifest, CLUSTERS[-1], strict=True)
    assert CONTAINER["name"] == "kserve-container"
    has_no_rights(CONTAINER)
    assert model["runtime"] == RUNTIME["metadata"]["name"]
    assert model["modelFormat"] in [{key: each[key] for key in ("name", "version")} for each in spec["supportedModelFormats"]]
    assert [model["protocolVersion"]] == spec["protocolVersions"] == ["v2"]


def test_the_service_has_the_time_to_finish_under_kserve_too() -> None:
    """The service needs a grace period, which Knative would refuse."""
    assert INFERENCE["metadata"]["annotations"] == {"serving.kserve.io/deploymentMode": "RawDeployment"}
    has_time_to_finish(INFERENCE["spec"]["predictor"], float(FLAGS["drain-delay"]))


# ------------------------------------------------------------------------------------------------------- A running service


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The service with the flags that KServe gives it, except the test's own port and folder.

    Flags win over the variables that Kubernetes sets if there is a Service named `recurve`.
    """
    flags = dict(FLAGS)
    assert flags.pop("port") == str(CONTAINER["ports"][0]["containerPort"])
    assert flags.pop("model-dir") == "/mnt/models"
    assert flags.pop("host") == "0.0.0.0"
    assert {name.replace("-", "_") for name in flags} == {"log_format", "drain_delay"} <= Settings.model_fields.keys()
    with serve(ROOT / "model", "--workers", "2", RECURVE_PORT="tcp://10.0.0.1:8000") as server:
        steps = [[0.5, -0.3, 0.1, 0.0, 0.0, 9.8]] * 3
        answers = [httpx.post(f"{server.url}/predict", json={"instances": [steps, steps[:1]]})]
        stream = httpx.post(f"{server.url}/streams").json()["id"]
        answers.append(httpx.post(f"{server.url}/streams/{stream}/predict", json={"input": steps}))
        tensor = {"name": "input", "shape": [1, 3, 6], "datatype": "FP32", "data": [steps]}
        name = INFERENCE["metadata"]["name"]
        answers.append(httpx.post(f"{server.url}/v2/models/{name}/infer", json={"inputs": [tensor]}))
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        yield server


def test_probes_and_scrapes_are_answered(server: Server) -> None:
    paths = {RUNTIME["spec"]["annotations"]["prometheus.kserve.io/path"]}
    for overlay in OVERLAYS:
        deployment = the("Deployment", rendered(KUBERNETES / overlay))
        (container,) = pod_of(deployment)["containers"]
        annotations = deployment["spec"]["template"]["metadata"]["annotations"]
        assert annotations["prometheus.io/port"] == str(container["ports"][0]["containerPort"])
        paths.add(annotations["prometheus.io/path"])
        paths |= {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    paths |= {CONTAINER[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")}
    assert paths == {"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/metrics"}
    for path in paths:
        assert httpx.get(server.url + path).status_code == 200


@needs_promtool
def test_promtool_accepts_the_metrics(server: Server) -> None:
    promtool("check", "metrics", text=httpx.get(f"{server.url}/metrics").text)


# ------------------------------------------------------------------------------------------------------------------ README


def test_the_files_that_are_named_exist() -> None:
    """README.md, docs/ and the comments of the deployed files must name files that exist."""
    texts = [
        *(path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]),
        *(path.read_text() for path in DEPLOY.rglob("*") if path.is_file()),
    ]
    named = {path.rstrip(".") for text in texts for path in re.findall(r"(?<![\w/])deploy/[\w./-]+", text)}
    assert {"deploy/kubernetes/base", "deploy/kubernetes/overlays/redis", "deploy/kubernetes/overlays/gpu"} <= named
    for path in named - {"deploy/kubernetes/overlays/redis/state.key"}:
        assert (ROOT / path).exists(), path
