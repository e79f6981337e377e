"""compose.yaml, the Dockerfile, .env.example, vigie.toml and what they say about each other."""

import re
import tomllib
from pathlib import Path

from checks import exported
from checks.loading import load

SERVICES = {
    "drift-monitor": "drift_monitor",
    "retrain-decider": "retrain_decider",
    "trainer-bridge": "trainer_bridge",
    "validator": "validator",
    "notifier": "notifier",
}
SECRET = re.compile(r"PASSWORD|TOKEN|SECRET|WEBHOOK|CREDENTIAL|_KEY$", re.IGNORECASE)
VARIABLE = re.compile(r"\$\$|\$\{(\w+)((?::?[-?+])[^}]*)?\}|\$(\w+)|\$")
CONDITIONS = {"service_healthy", "service_started", "service_completed_successfully"}


def problems(folder):
    """Everything wrong, one sentence each."""
    found = []
    text = (folder / "compose.yaml").read_text("utf-8")
    compose = load(text, "compose.yaml", found)
    if not isinstance(compose, dict) or not isinstance(compose.get("services"), dict):
        return [*found, "compose.yaml has no services"]
    example = (folder / ".env.example").read_text("utf-8")
    found += check_variables(compose, example)
    found += check_services(compose, folder)
    found += check_order(compose["services"])
    settings = read_settings(folder, found)
    dockerfile = (folder / "Dockerfile").read_text("utf-8")
    found += check_image(dockerfile, compose["services"], folder.parent)
    found += check_addresses(settings, compose["services"])
    found += check_nats((folder / "nats.conf").read_text("utf-8"))
    names = exported.environment_names(folder.parent)
    found += check_sample_environment((folder.parent / ".env.example").read_text("utf-8"), names)
    found += check_environment(compose["services"], names)
    return found


def summary(folder):
    compose = load((folder / "compose.yaml").read_text("utf-8"), "compose.yaml", [])
    return f"{len(compose['services'])} containers are fine"


def example_variables(folder):
    """Names in .env.example."""
    return list(read_example((folder / ".env.example").read_text("utf-8")))


def read_example(text):
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def texts(value, path=""):
    """Every text in the document with where it stands."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from texts(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from texts(inner, f"{path}[{index}]")
    elif isinstance(value, str):
        yield path, value


def check_variables(compose, example):
    """Passwords come from .env and have no default; every variable is explained in .env.example."""
    found, used, declared = [], set(), read_example(example)
    for path, text in texts(compose):
        for match in VARIABLE.finditer(text):
            if match.group(0) == "$$":
                continue
            name, modifier = match.group(1) or match.group(3), match.group(2) or ""
            if name is None or match.group(3):
                found.append(f"{path}: `{match.group(0)}` must be written `${{NAME:?…}}`, or `$$` for a dollar sign")
                continue
            used.add(name)
            if modifier.startswith(":?"):
                if len(modifier) < 5:
                    found.append(f"{path}: `{match.group(0)}` does not say what to do when it is missing")
            elif modifier == ":-":
                if "PASSWORD" in name:
                    found.append(f"{path}: the password `{name}` must be demanded: `${{{name}:?…}}`")
            elif modifier.startswith((":-", "-")) and SECRET.search(name):
                found.append(f"{path}: `{name}` has a default value; secrets have none")
            else:
                found.append(f"{path}: `{match.group(0)}` may be empty without a word; use `${{{name}:?…}}` or `${{{name}:-}}`")
            if name not in declared:
                found.append(f"{path}: `{name}` is not in .env.example")
    found += [f".env.example: `{name}` is used nowhere" for name in declared if name not in used]
    found += [f".env.example: `{name}` has a value; secrets have none" for name, value in declared.items() if value and SECRET.search(name)]
    return found


def environment_of(service):
    environment = service.get("environment") or {}
    if isinstance(environment, list):
        return dict(entry.partition("=")[::2] for entry in environment)
    return environment


def check_services(compose, folder):
    found, services = [], compose["services"]
    volumes = compose.get("volumes") or {}
    used_volumes = set()
    for name, service in services.items():
        where = f"services.{name}"
        image = service.get("image", "")
        if not re.search(r":v?\d|:local$", image):
            found.append(f"{where}: image `{image}` has no version")
        for key, value in environment_of(service).items():
            if SECRET.search(key) and not key.endswith("_FILE") and value and "${" not in str(value):
                found.append(f"{where}.environment.{key}: a secret stands in the file")
        for path, text in texts(service):
            if re.search(r"://[^/@\s:]+:(?!\$\{)[^@/\s]+@", text):
                found.append(f"{where}.{path}: a password stands in a URL")
        for port in service.get("ports") or []:
            if not isinstance(port, str) or not re.fullmatch(r"(127\.0\.0\.1|\[::1\]):\d+:\d+", port):
                found.append(f"{where}.ports: `{port}` must be published on loopback: `127.0.0.1:HOST:CONTAINER`")
        found += check_health(where, service)
        for volume in service.get("volumes") or []:
            found += check_volume(where, volume, volumes, used_volumes, folder)
        if service.get("privileged") or service.get("network_mode") == "host" or "docker.sock" in str(service):
            found.append(f"{where}: has rights on the host")
        if "no-new-privileges:true" not in (service.get("security_opt") or []):
            found.append(f"{where}: lacks security_opt no-new-privileges")
        mode = service.get("network_mode", "")
        if mode.startswith("service:") and mode.removeprefix("service:") not in services:
            found.append(f"{where}.network_mode: there is no service `{mode.removeprefix('service:')}`")
        if mode.startswith("service:") and service.get("ports"):
            found.append(f"{where}.ports: belong to the service whose network it shares")
    found += [f"volumes.{name} is used nowhere" for name in volumes if name not in used_volumes]
    for name in SERVICES:
        if name not in services:
            found.append(f"services.{name} is missing")
            continue
        service = services[name]
        if service.get("read_only") is not True or service.get("cap_drop") != ["ALL"]:
            found.append(f"services.{name} must have `read_only: true` and `cap_drop: [ALL]`")
    return found


def check_health(where, service):
    check, reason = service.get("healthcheck"), service.get("x-no-healthcheck")
    if check is None:
        return [] if reason else [f"{where}: has neither a healthcheck nor an x-no-healthcheck that says why"]
    found = [f"{where}: has a healthcheck and an x-no-healthcheck"] if reason else []
    test = check.get("test")
    if not isinstance(test, list) or len(test) < 2 or test[0] != "CMD":
        found.append(f"{where}.healthcheck.test: must be a list that begins with CMD")
    for key in ("interval", "timeout"):
        if key not in check:
            found.append(f"{where}.healthcheck.{key} is missing")
    return found


def check_volume(where, volume, declared, used, folder):
    source, _, rest = volume.partition(":") if isinstance(volume, str) else ("", "", "")
    if not rest.startswith("/"):
        return [f"{where}.volumes: `{volume}` must read `SOURCE:/TARGET[:ro]`"]
    if not source.startswith("."):
        used.add(source)
        return [] if source in declared else [f"{where}.volumes: `{source}` is not declared"]
    found = []
    if not rest.endswith(":ro"):
        found.append(f"{where}.volumes: `{source}` must be mounted read-only")
    if not (folder / source).exists():
        found.append(f"{where}.volumes: `{source}` does not exist")
    return found


def check_order(services):
    """Waits for health where health is known, and nobody waits in a circle."""
    found, needs = [], {}
    for name, service in services.items():
        depends = service.get("depends_on") or {}
        where = f"services.{name}.depends_on"
        if not isinstance(depends, dict):
            found.append(f"{where}: must say a condition for each service")
            continue
        needs[name] = set(depends)
        for other, how in depends.items():
            condition = (how or {}).get("condition")
            if other not in services:
                found.append(f"{where}: there is no service `{other}`")
            elif condition not in CONDITIONS:
                found.append(f"{where}.{other}: condition `{condition}` is unknown")
            elif condition == "service_healthy" and "healthcheck" not in services[other]:
                found.append(f"{where}.{other}: waits for the health of a service without healthcheck")
            elif condition == "service_started" and "healthcheck" in services[other] and services[name].get("network_mode") != f"service:{other}":
                found.append(f"{where}.{other}: has a healthcheck, so wait for `service_healthy`")
    for name in SERVICES:
        missing = {"nats", "postgres"} - needs.get(name, set())
        if name in services and missing:
            found.append(f"services.{name}.depends_on: lacks {', '.join(sorted(missing))}")
    done = set()
    while ready := [name for name, wanted in needs.items() if name not in done and wanted <= done]:
        done.update(ready)
    circle = sorted(set(needs) - done)
    if circle and not any("there is no service" in problem for problem in found):
        found.append(f"services wait for each other in a circle: {', '.join(circle)}")
    return found


def read_settings(folder, found):
    try:
        return tomllib.loads((folder / "vigie.toml").read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        found.append(f"vigie.toml: {error}")
        return {}


def check_image(dockerfile, services, root):
    """Two stages, the lock file honoured, no root, and every command that is started is there."""
    found = []
    lines = re.sub(r"\\\n", " ", dockerfile).splitlines()
    bases = [line.split() for line in lines if line.startswith("FROM ")]
    if len(bases) < 2:
        found.append("Dockerfile: building and running must be separate stages")
    found += [f"Dockerfile: `{base[1]}` has no version" for base in bases if not re.search(r":[\w.-]*\w", base[1]) or base[1].endswith(":latest")]
    build = next((line for line in lines if "cargo build" in line), "")
    for option in ("--release", "--locked"):
        if option not in build:
            found.append(f"Dockerfile: cargo build lacks {option}")
    built = set(re.findall(r"--package (\S+)", build))
    for name in built:
        if not (root / name / "src" / "main.rs").is_file():
            found.append(f"Dockerfile: there is no program `{name}` to build")
    final = lines[max((index for index, line in enumerate(lines) if line.startswith("FROM ")), default=0) :]
    users = [line.split()[1] for line in final if line.startswith("USER ")]
    if not users or users[-1].split(":")[0] in ("0", "root"):
        found.append("Dockerfile: the image must not run as root")
    for line in final:
        for source in re.findall(r"^COPY (?!--from)(?:--\S+ )*(\S+) \S+$", line):
            if not (root / source).exists():
                found.append(f"Dockerfile: `{source}` does not exist")
    for name, service in services.items():
        if "build" not in service:
            continue
        program = (service.get("entrypoint") or service.get("command") or [""])[0]
        if program not in built:
            found.append(f"services.{name}: the image holds no program `{program}`")
        context = service["build"]
        dockerfile_path = Path(context.get("context", ".")) / context.get("dockerfile", "Dockerfile")
        if not (root / "compose" / dockerfile_path).is_file():
            found.append(f"services.{name}.build: `{dockerfile_path}` does not exist")
    return found


def check_addresses(settings, services):
    """Each service is asked for its health at the port where it listens."""
    found, http = [], settings.get("http", {})
    for name, key in SERVICES.items():
        address = str(http.get(key, ""))
        if not re.fullmatch(r"0\.0\.0\.0:\d+", address):
            found.append(f"vigie.toml: http.{key} must be `0.0.0.0:PORT`, so that Prometheus reaches it")
            continue
        test = services.get(name, {}).get("healthcheck", {}).get("test", [])
        if test[-1:] != [address.rpartition(":")[2]]:
            found.append(f"services.{name}.healthcheck asks another port than vigie.toml's http.{key} ({address})")
    smtp = settings.get("notify", {}).get("smtp", {})
    if smtp.get("encryption") == "none" and services.get("mailpit", {}).get("network_mode") != "service:notifier":
        found.append("services.mailpit: plain SMTP needs the notifier's own network")
    return found


def check_nats(text):
    found = []
    bare = re.sub(r"#.*", "", text)
    for setting, why in (
        (r"sync_interval:\s*always", "acknowledged messages must be on disk"),
        (r"store_dir:\s*/data", "messages must lie on the volume"),
        (r"max_file_store:\s*\d+", "the store must have a bound"),
    ):
        if not re.search(setting, bare):
            found.append(f"nats.conf: {why} (expected `{setting}`)")
    return found


# Second names of settings; the sample shows the first.
SECOND_NAMES = {"SLACK_WEBHOOK_URL"}


def check_sample_environment(example, names):
    """The sample at the top of the repository shows every name that the services read, and no other."""
    shown = set(re.findall(r"^#?([A-Z][A-Z0-9_]*)=", example, re.MULTILINE))
    found = [f".env.example (repository): no service reads `{name}`" for name in sorted(shown - names) if not name.startswith("VIGIE__")]
    return found + [f".env.example (repository): does not show `{name}`" for name in sorted(names - shown - SECOND_NAMES)]


def check_environment(services, names):
    """What the containers of the services are given is read by them."""
    found = []
    for name, service in services.items():
        if "build" in service:
            unknown = set(environment_of(service)) - names - {"VIGIE_CONFIG"}
            found += [f"services.{name}.environment: no service reads `{key}`" for key in sorted(unknown) if not key.startswith("VIGIE__")]
    return found
