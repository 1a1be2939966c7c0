"""Nothing in the sources can execute what a loaded file says."""

import ast

import pytest

REFUSED = {
    "pickle.load": "a pickle runs what it says",
    "pickle.loads": "a pickle runs what it says",
    "pickle.Unpickler": "only a subclass with find_class refuses globals",
    "joblib.load": "it unpickles",
    "dill.load": "it unpickles",
    "marshal.loads": "it is code",
    "shelve.open": "it unpickles",
    "yaml.load": "safe_load makes no objects",
    "yaml.unsafe_load": "safe_load makes no objects",
}


def dotted(node):
    """`a.b.c` of a call's function, or its bare name."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([*([node.id] if isinstance(node, ast.Name) else []), *reversed(parts)])


def faults(tree):
    """What a module does that a foreign file could use, with the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(dotted(base).endswith("Unpickler") for base in node.bases):
            own = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
            if "find_class" not in own:
                yield node.lineno, f"{node.name} unpickles any global"
        if not isinstance(node, ast.Call):
            continue
        name, keywords = dotted(node.func), {keyword.arg: keyword.value for keyword in node.keywords}
        if name in REFUSED:
            yield node.lineno, f"{name}: {REFUSED[name]}"
        if name.endswith(".extractall"):
            yield node.lineno, f"{name}: a member's path may leave the folder"
        for call, option, wanted in (("torch.load", "weights_only", True), ("np.load", "allow_pickle", False)):
            value = keywords.get(option)
            if name == call and not (isinstance(value, ast.Constant) and value.value is wanted):
                yield node.lineno, f"{call} without {option}={wanted}"
        remote = keywords.get("trust_remote_code")
        if remote is not None and not (isinstance(remote, ast.Constant) and remote.value is False):
            yield node.lineno, "trust_remote_code runs a repository's code"


def test_no_loader_executes_what_it_reads(source):
    found = [
        f"{path.relative_to(source)}:{line}: {fault}"
        for path in sorted(source.rglob("*.py"))
        for line, fault in faults(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "import pickle\npickle.load(file)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "archive.extractall(folder)",
        "class Loader(pickle.Unpickler):\n    pass",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
    ],
)
def test_the_check_sees_it(text):
    assert list(faults(ast.parse(text)))
