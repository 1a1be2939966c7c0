"""Tiny models and the tiny world, built once a session."""

import pytest

FAMILIES = ("qwen2_5_vl", "qwen3_vl")
ASK = "Look at the picture and say something funny."


@pytest.fixture(scope="session")
def tiny_world():
    from clot._world import make_world

    return make_world(prompts=18, answers=5)


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory, tiny_world):
    """A saved model of each family."""
    pytest.importorskip("transformers")
    from clot.integrations.tiny import save_tiny

    texts = [*tiny_world.texts(), ASK]
    return {name: save_tiny(tmp_path_factory.mktemp(name), name, texts=texts) for name in FAMILIES}


@pytest.fixture(scope="session")
def tiny_backends(tiny_folders):
    """A backend of each family; nobody changes its weights."""
    from clot.integrations.hf import HFBackend

    return {name: HFBackend.from_pretrained(folder, device="cpu") for name, folder in tiny_folders.items()}


@pytest.fixture(params=FAMILIES)
def backend(request, tiny_backends):
    return tiny_backends[request.param]


@pytest.fixture(scope="session")
def asked(tiny_world):
    """Prompts with and without pictures: alike from the beginning, unlike, and one twice."""
    from clot import Prompt

    one, two = list(tiny_world.pictures.values())[:2]
    texts = [
        f"{ASK} {tail}".strip() for tail in ("", "Write a sentence.", "the teapot orbits a banker. Why was the red")
    ]
    pictures = [Prompt(text, image) for image in (one, two) for text in texts]
    return [*pictures, pictures[0], *map(Prompt, texts), Prompt("Why was the green ring late?")]


@pytest.fixture(scope="session")
def lessons(tiny_world):
    """Forty instructions of two kinds."""
    from clot import Instruction, Prompt

    found = []
    for at, one in enumerate(tiny_world.split("train")[:40]):
        picture = tiny_world.pictures.get(one.image)
        text = ASK if one.question is None else f"{ASK} {one.question}"
        kind, target = ("select", "A") if at % 4 == 0 else ("generate", one.text)
        prompt = Prompt(text, picture)
        found.append(Instruction(one.id, kind, one.type, "en", prompt, target, one.id, image=one.image))
    return found
