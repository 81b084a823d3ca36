"""Checks the documentation against itself, the site built from it, and the programs that it describes. check.sh starts it."""

import argparse
import html.parser
import pathlib
import re
import subprocess
import sys
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

# Flags in inline code that belong to other programs.
FOREIGN_FLAGS = {"--no-hooks", "--set", "--take-ownership", "--wait", "--quick", "--cluster", "--only", "--check", "--help", "--build", "--cfg", "--websocket"}
# Variables that scripts of this repository read; those of the programs come from their `--help`.
SCRIPTS = ["tests/run", "tests/lib/setup.sh", "tests/lib/suites.sh", "docs/check.sh", "manifests/generate.sh", "Makefile", ".ci/run"]
CODE = re.compile(r"^(```|~~~).*?^\1\s*$", re.M | re.S)
INLINE = re.compile(r"`([^`\n]+)`")


class Tally:
    """One check is one test: it passes if it finds no faults."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def check(self, name, faults):
        faults = list(faults)
        if faults:
            self.failed += 1
            print(f"FAILED: {name}")
            for fault in faults:
                print(f"    {fault}")
        else:
            self.passed += 1

    def skip(self, name, why):
        self.skipped += 1
        print(f"skipped: {name}: {why}")


class Page:
    """A Markdown file."""

    def __init__(self, path):
        self.path = path
        self.name = str(path.relative_to(ROOT))
        self.text = path.read_text()
        self.prose = CODE.sub("", self.text)
        self.spans = INLINE.findall(self.prose)

    def links(self):
        without_code = INLINE.sub("", self.prose)
        return re.findall(r"\]\(([^)\s]+)\)", without_code)

    def anchors(self):
        found, seen = set(), {}
        for heading in re.findall(r"^#{1,6} +(.+?)\s*$", self.prose, re.M):
            slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            count = seen.get(slug, 0)
            seen[slug] = count + 1
            found.add(f"{slug}-{count}" if count else slug)
        return found


def pages():
    paths = [ROOT / name for name in ("README.md", "README.pt-BR.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "CHANGELOG.md")]
    paths += sorted(DOCS.rglob("*.md")) + sorted((ROOT / ".github").rglob("*.md")) + [ROOT / "tests/fuzz/README.md"]
    return [Page(path) for path in paths]


def broken_links(page, anchors):
    inside = DOCS in page.path.parents
    for link in page.links():
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.path.parent / urllib.parse.unquote(path)).resolve() if path else page.path
        if not target.exists():
            yield f"{link}: there is no such file"
        elif inside and DOCS not in target.parents and target != DOCS:
            yield f"{link}: leads out of docs/, which the site does not have"
        elif anchor and anchor not in anchors.get(target, set()):
            yield f"{link}: there is no such heading"


def missing_from_summary():
    listed = {(DOCS / link).resolve() for link in Page(DOCS / "SUMMARY.md").links()}
    for path in sorted(DOCS.rglob("*.md")):
        if path not in listed and path.name != "SUMMARY.md":
            yield f"{path.relative_to(DOCS)} is not in SUMMARY.md"


class Html(html.parser.HTMLParser):
    """Identifiers and links of a rendered page."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids.add(value)
            elif name == "href" and tag == "a" or name == "src":
                self.links.append(value or "")


def broken_in_site(site):
    rendered = {path: Html(path) for path in site.rglob("*.html")}
    for path, page in rendered.items():
        if path.name in ("404.html", "toc.html"):
            continue
        for link in page.links:
            if re.match(r"[a-z]+:|//", link):
                continue
            target, _, anchor = link.partition("#")
            file = (path.parent / urllib.parse.unquote(target)).resolve() if target else path
            if not file.exists():
                yield f"{path.relative_to(site)}: {link}: there is no such file"
            elif anchor and file in rendered and urllib.parse.unquote(anchor) not in rendered[file].ids:
                yield f"{path.relative_to(site)}: {link}: there is no such heading"


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def yaml_paths(text):
    """Dotted paths of all keys, without the levels `properties` and `items` of JSON Schema."""
    stack = []
    for line in text.splitlines():
        match = re.match(r"( *)((?:- )*)([\w.$/-]+):(?: |$)", line)
        if match:
            depth = len(match[1]) + len(match[2])
            while stack and stack[-1][0] >= depth:
                stack.pop()
            stack.append((depth, match[3]))
            yield ".".join(key for _, key in stack if key not in ("properties", "items"))


class Facts:
    """The names that the programs, the chart and the repository have."""

    def __init__(self, server, operator):
        self.server_help = output(server, "--help")
        helps = [self.server_help, output(operator, "--help")]
        for command in re.findall(r"^  ([a-z-]+)  ", helps[1], re.M):
            if command != "help":
                helps.append(output(operator, command, "--help"))
        everything = "\n".join(helps)
        self.flags = set(re.findall(r"--[a-z][a-z-]+", everything))
        scripts = "\n".join((ROOT / name).read_text() for name in SCRIPTS if (ROOT / name).exists())
        self.variables = set(re.findall(r"\bPAPO_[A-Z_]+", everything + scripts))
        self.commands = set(re.findall(r"^  ([a-z-]+)  ", helps[1], re.M))
        schema = re.compile(r"^spec\.versions\.schema\.openAPIV3Schema\.((?:spec|status)\.[\w.]+)$")
        matches = map(schema.match, yaml_paths(output(operator, "crd")))
        schema_words = {"description", "type", "nullable", "maxLength", "minLength", "default", "required", "enum", "pattern", "format", "maximum", "minimum", "maxItems", "minItems"}
        self.fields = {match[1] for match in matches if match and match[1].rsplit(".", 1)[1] not in schema_words}
        self.values = set(yaml_paths((ROOT / "charts/papo/values.yaml").read_text()))
        sources = {path: path.read_text() for path in [*ROOT.glob("server/src/**/*.rs"), *ROOT.glob("operator/src/**/*.rs"), *ROOT.glob("crates/*/src/**/*.rs")]}
        self.source = "\n".join(sources.values())
        self.operator_source = "\n".join(text for path, text in sources.items() if ROOT / "operator" in path.parents)
        self.metrics = set(self._metrics(sources))
        self.targets = set(re.findall(r"^([a-z0-9-]+): ## ", (ROOT / "Makefile").read_text(), re.M))
        self.entries = {path.name for path in ROOT.iterdir()}
        event = (ROOT / "crates/protocol/src/event.rs").read_text()
        self.events = set(re.findall(r'^pub const [A-Z_]+: &str = "([a-z_]+)"', event, re.M))
        self.codes = set(re.findall(r'Self::\w+ => "([a-z_]+)"', event))
        self.conditions = set(re.findall(r'pub const [A-Z_]+: &str = "([A-Z]\w+)"', (ROOT / "operator/src/crd/status.rs").read_text()))

    @staticmethod
    def _metrics(sources):
        for path, text in sources.items():
            if path.name != "metrics.rs":
                continue
            prefix = re.search(r'sub_registry_with_prefix\(\s*"(\w+)"', text)
            if not prefix:
                continue
            for unit, name in re.findall(r'\bregister(_with_unit)?\(\s*"(\w+)"', text):
                yield f"{prefix[1]}_{name}_seconds" if unit else f"{prefix[1]}_{name}"
            # Metrics that are read when they are asked for.
            for name, unit in re.findall(r'\bencode_descriptor\(\s*"(\w+)",\s*help,\s*(?:None|Some\(&Unit::(\w+)\))', text):
                yield f"{name}_{unit.lower()}" if unit else name


def unknown_names(page, facts):
    """Names in inline code that look like Papo's and do not exist."""
    for span in page.spans:
        ours = re.match(r"--|papo-(server|operator) ", span)
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", span) if ours else []:
            if flag not in facts.flags | FOREIGN_FLAGS:
                yield f"{span}: there is no flag {flag}"
        for variable in re.findall(r"\bPAPO_[A-Z_]*[A-Z]\b", span):
            if variable not in facts.variables:
                yield f"{span}: nothing reads {variable}"
        for metric in re.findall(r"\bpapo_[a-z_]+(?![a-z_=])", span):
            base = re.sub(r"_(total|bucket|sum|count)$", "", metric)
            if base not in facts.metrics:
                yield f"{span}: there is no metric {metric}"
        for field in re.findall(r"^(?:spec|status)\.[A-Za-z.]+", span):
            if field not in facts.fields and field not in {".".join(known.split(".")[: field.count(".") + 1]) for known in facts.fields}:
                yield f"{span}: a ChatRoom has no field {field}"
        value = re.fullmatch(r"(operator|server|rabbitmq|broker|crds|ingress|gateway|networkPolicy|serviceMonitor|prometheusRule|dashboard|rbac)(\.[A-Za-z]+)+(=.*)?", span)
        if value and span.partition("=")[0] not in facts.values and f"spec.{span}" not in facts.fields:
            yield f"{span}: the chart has no value of this name"
        for target in re.findall(r"^make ([a-z0-9-]+)", span):
            if target not in facts.targets:
                yield f"{span}: the Makefile has no such target"
        for command in re.findall(r"^papo-operator ([a-z-]+)", span):
            if command not in facts.commands:
                yield f"{span}: papo-operator has no such command"
        path = re.fullmatch(r"([\w.-]+)/[\w./*-]*", span)
        if path and path[1] in facts.entries - {"target"} and not (ROOT / span).exists() and not any(ROOT.glob(span)):
            yield f"{span}: there is no such file"


def examples(page):
    """The blocks of a language, by language."""
    for block in re.findall(r"^```(\w+)\n(.*?)^```", page.text, re.M | re.S):
        yield block


def wrong_in_examples(page, facts):
    for language, text in examples(page):
        if language != "sh":
            continue
        for line in text.replace("\\\n", " ").splitlines():
            line = line.partition("#")[0]
            if re.match(r"\s*(?:target/release/)?(papo-server|papo-operator)\b", line):
                for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line):
                    if flag not in facts.flags:
                        yield f"{line.strip()}: there is no flag {flag}"
            for target in re.findall(r"^\s*make ([a-z0-9-]+)", line):
                if target not in facts.targets:
                    yield f"{line.strip()}: the Makefile has no such target"
            for key in re.findall(r"--set(?:-string|-json)? '?([A-Za-z.]+)", line):
                if not any(key == value or value.startswith(key + ".") or key.startswith(value + ".") for value in facts.values):
                    yield f"{line.strip()}: the chart has no value {key}"
            for path in re.findall(r"(?<![\w/.:-])((?:charts|manifests|tests|docs)/[\w./-]+)", line):
                if not (ROOT / path).exists():
                    yield f"{line.strip()}: there is no {path}"


def unnamed(page, names, what):
    text = page.read_text()
    for name in sorted(set(names)):
        if not re.search(rf"(?<![\w-]){re.escape(name)}(_total)?(?![\w-])", text):
            yield f"the {what} {name} is not described"


def main():
    parser = argparse.ArgumentParser()
    for option in ("--site", "--actionlint", "--server", "--operator"):
        parser.add_argument(option, required=True)
    options = parser.parse_args()
    facts, tally = Facts(options.server, options.operator), Tally()

    everything = pages()
    anchors = {page.path: page.anchors() for page in everything}
    for page in everything:
        tally.check(f"links of {page.name}", broken_links(page, anchors))
        if page.name != "CHANGELOG.md":
            tally.check(f"names in {page.name}", unknown_names(page, facts))
            tally.check(f"examples in {page.name}", wrong_in_examples(page, facts))
    tally.check("summary", missing_from_summary())
    tally.check("links of the site", broken_in_site(pathlib.Path(options.site).resolve()))

    limits = re.search(r"^Limits:\n(.*?)(?=^\S|\Z)", facts.server_help, re.M | re.S)
    # A heading of clap's help covers all flags until the next heading, so the section of limits also has the flags for logs.
    flags = [flag for flag in re.findall(r"^ +(--[a-z-]+) <", limits[1], re.M) if not flag.startswith("--log")] if limits else []
    tally.check("every limit is in limits.md", unnamed(DOCS / "limits.md", flags, "flag") if flags else ["the server's --help has no limits"])
    tally.check("every event is in events.md", unnamed(DOCS / "events.md", facts.events, "event"))
    tally.check("every code is in events.md", unnamed(DOCS / "events.md", facts.codes, "code"))
    tally.check("every metric is in operations.md", unnamed(DOCS / "operations.md", facts.metrics, "metric"))
    alerts = re.findall(r"^- alert: (\w+)", (ROOT / "charts/papo/files/alerts.yaml").read_text(), re.M)
    tally.check("every alert is in operations.md", unnamed(DOCS / "operations.md", alerts, "alert"))
    kubernetes = DOCS / "kubernetes.md"
    top = {field.split(".")[1] for field in facts.fields if field.startswith("spec.")}
    second = {field.split(".")[2] for field in facts.fields if field.count(".") == 2 and field.split(".")[1] in ("retention", "limits", "access", "broker", "ingress", "gateway", "placement", "resources")}
    tally.check("every field is in kubernetes.md", unnamed(kubernetes, top | second, "field"))
    tally.check("every condition is in kubernetes.md", unnamed(kubernetes, facts.conditions, "condition"))
    reasons = set(re.findall(r"^\| `?\w*`? ?\| `([A-Z][A-Za-z]+)` \|", kubernetes.read_text(), re.M))
    tally.check("reasons in kubernetes.md exist", [f"the operator has no reason {reason}" for reason in sorted(reasons) if f'"{reason}"' not in facts.operator_source] if reasons else ["no reasons are listed"])
    readme = (ROOT / "README.md").read_text().count("\n")
    tally.check("README.md is short", [f"it has {readme} lines, 140 at most"] if readme > 140 else [])

    workflows = [str(path) for path in sorted((ROOT / ".github/workflows").glob("*.yml"))]
    if options.actionlint:
        linted = subprocess.run([options.actionlint, "-no-color", "-shellcheck=", "-pyflakes=", *workflows], capture_output=True, text=True)
        tally.check("workflows", (linted.stdout + linted.stderr).splitlines() if linted.returncode else [])
    else:
        tally.skip("workflows", "there is neither actionlint nor Go to build it with")

    print(f"{tally.passed} passed, {tally.failed} failed" + (f", {tally.skipped} skipped" if tally.skipped else ""))
    return 1 if tally.failed else 0


sys.exit(main())
