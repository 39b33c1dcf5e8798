"""What the book says to kubectl: verbs, kinds, conditions, fields, labels and annotations that are there. Fields and conditions
are those of the pages that are generated from the definitions (docs/reference/kubernetes-*.md); what of `hardstorage.dev/`
is obeyed is what the operator's source names; what `kubectl hardstorage` takes is what its source declares. check.py calls it;
nothing is run."""

import json
import re
import shlex

VERBS = {
    "annotate", "apply", "create", "delete", "describe", "exec", "explain", "get", "kustomize", "logs", "patch",
    "port-forward", "rollout", "top", "wait",
}
# What kubectl's own kinds are called here.
OTHERS = {
    "cluster", "clusters", "configmap", "crd", "cronjob", "cronjobs", "deploy", "deployment", "event", "events", "job", "jobs",
    "lease", "namespace", "node", "nodes", "persistentvolumeclaims", "pod", "pods", "secret", "service", "statefulset",
}
# Both are made of other things than a kind and a name.
WITHOUT_KIND = {"apply", "kustomize", "exec", "logs", "port-forward", "rollout", "explain", "top"}


class Plugin:
    """`kubectl hardstorage`: its commands, and the options of each with whether they take a value."""

    def __init__(self, text):
        structs = re.findall(r"^pub struct (\w+) \{\n(.*?)^\}", text, re.S | re.M)
        options = {name: self.options_of(body) for name, body in structs}
        commands = re.search(r"^pub enum Command \{\n(.*?)^\}", text, re.S | re.M).group(1)
        # The one command without a struct has no options of its own.
        found = re.findall(r"^    (\w+)(?:\((\w+)\),| \{)$", commands, re.M)
        self.commands = {name.lower(): options["Scope"] | options.get(of, {}) for name, of in found}

    @staticmethod
    def options_of(body):
        options = {}
        for attribute, name, kind in re.findall(r"#\[arg\((.*?)\)\]\n    pub (\w+): (.*),$", body, re.M):
            long, short = re.search(r"\blong\b", attribute), re.search(r"\bshort\b(?: = '(.)')?", attribute)
            if long:
                options["--" + name.replace("_", "-")] = kind != "bool"
            if short:
                options["-" + (short.group(1) or name[0])] = kind != "bool"
        return options

    def check(self, words):
        """What is wrong with the words behind `kubectl hardstorage`."""
        if not words or words in (["--help"], ["--version"]):
            return None
        command, rest = words[0], words[1:]
        if command not in self.commands:
            return f"kubectl hardstorage has no command {command}"
        while rest:
            name, equals, _ = rest.pop(0).partition("=")
            if not name.startswith("-"):
                continue
            if name not in self.commands[command]:
                return f"kubectl hardstorage {command} has no option {name}"
            if self.commands[command][name] and not equals:
                if not rest:
                    return f"{name} needs a value"
                rest.pop(0)
        return None


class Objects:
    """Our kinds, from their pages."""

    def __init__(self, pages, sources, plugin):
        self.plugin = Plugin(plugin.read_text())
        self.fields, self.conditions, self.kinds = {}, {}, {}
        for page in pages:
            text = page.read_text()
            kind = re.search(r"^# (\w+)$", text, re.M).group(1)
            plural, short = re.search(r"on the command line `(\w+)`, in short `(\w+)`", text).groups()
            for word in (plural, short, "hs" + kind.lower()):
                self.kinds[word] = kind
            self.fields[kind] = set(re.findall(r"^\| `((?:spec|status)[^`]*)`", text, re.M)) | {"spec", "status"}
            self.conditions[kind] = set(re.findall(r"^\| `(\w+)` \|", text.split("### status.conditions")[1], re.M))
        self.words = set(re.findall(r"\bhardstorage\.dev/[a-z0-9-]+", "\n".join(source.read_text() for source in sources)))
        self.literals = set(re.findall(r'"([A-Z][A-Za-z]+)"', "\n".join(source.read_text() for source in sources)))

    def kinds_in(self, word):
        """The kinds that a word such as `hsdep`, `hsdep/shop` or `hssched,cronjob` names; None for one that nobody knows."""
        found = []
        for one in word.split("/")[0].split(","):
            name = one.split(".")[0]
            if name in self.kinds:
                found.append(self.kinds[name])
            elif name == "hardstorage":
                found += self.fields
            elif name not in OTHERS:
                return None
        return found


def lines_of(text):
    """Command lines in blocks of shell and in backquotes, each without what stands in a heredoc."""
    for block in re.findall(r"```sh[^\n]*\n(.*?)```", text, re.S):
        block = re.sub(r"<<-?'?(\w+)'?.*?^\s*\1$", "", block.replace("\\\n", " "), flags=re.S | re.M)
        for line in block.splitlines():
            yield from re.findall(r"\bkubectl .*", line)
    outside = re.sub(r"```.*?```", "", text, flags=re.S)
    yield from (line.replace("\n", " ") for line in re.findall(r"`(kubectl [^`]*)`", outside))


def words_of(line):
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words = list(lexer)
    ends = (index for index, word in enumerate(words) if set(word) <= set("|&;<>"))
    # What the shell puts in, and the end of a substitution, is not ours to judge.
    return words[1 : next(ends, len(words))]


def paths_of(value, path):
    """The paths of a patch."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from paths_of(inner, f"{path}.{name}" if path else name)
    else:
        yield path


def check_line(line, objects):
    try:
        words = words_of(line)
    except ValueError as error:
        return str(error)
    # Options that stand before the verb.
    while words and words[0] in ("-n", "--namespace"):
        words = words[2:]
        if words[:1] == ["hardstorage"]:
            return "kubectl takes no option before the name of a plugin"
    if words[:1] == ["hardstorage"]:
        return objects.plugin.check(words[1:])
    if not words or words[0] not in VERBS:
        return f"kubectl has no {words[0] if words else 'nothing'} here"
    verb, kinds = words[0], []
    if verb not in WITHOUT_KIND:
        rest, plain = words[1:], []
        while rest:
            word = rest.pop(0)
            if word in ("-n", "-l", "-o", "-p", "-f", "-c"):
                rest = rest[1:]
            elif not word.startswith("-"):
                plain.append(word)
        named = [word for word in plain if "/" in word and not word.startswith("hardstorage.dev")] or plain[:1]
        for word in named:
            found = objects.kinds_in(word)
            if found is None:
                return f"there is no kind {word}"
            kinds += found
    for condition in re.findall(r"--for=condition=(\w+)", line):
        for kind in kinds:
            if condition not in objects.conditions[kind]:
                return f"{kind} has no condition {condition}"
    asked = re.findall(r"\.((?:spec|status)(?:\.\w+)+)", line) if kinds else []
    for index, word in enumerate(words):
        if word == "-p" and kinds:
            asked += [path for path in paths_of(json.loads(words[index + 1]), "") if path.startswith("spec")]
    for path in asked:
        if not any(path in objects.fields[kind] for kind in kinds):
            return f"{' and '.join(sorted(set(kinds)))} has no field {path}"
    return None


def check(text, objects):
    """The number of command lines and what is wrong on a page."""
    lines, problems = 0, []
    for line in lines_of(text):
        lines += 1
        problem = check_line(line, objects)
        if problem:
            problems.append(f"{problem}: {line}")
    for word in sorted(set(re.findall(r"\bhardstorage\.dev/[a-z0-9-]+", text))):
        if word not in objects.words and not word.endswith("/v1alpha1") and "https://" + word not in text:
            problems.append(f"nobody obeys or sets {word}")
    return lines, problems


def check_reasons(text, objects, codes):
    """Reasons in backquotes on a runbook: words of the operator, or codes of the engine without their dots."""
    known = objects.literals | {"".join(part.capitalize() for part in re.split(r"[._]", code)) for code in codes}
    for kind in objects.conditions:
        known |= objects.conditions[kind]
    words = set(re.findall(r"`((?:[A-Z][a-z]+){2,})`", text)) | set(re.findall(r"`([A-Z]{2,}[a-z]\w+)`", text))
    return [f"no condition has the reason {word}" for word in sorted(words - known)]
