"""What a Request's prompt becomes before the engine reads it, by the model's own tokenizers and nothing else of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..models import ModelFolder
from ..prompts import FinalPrompt, Reader, prepare
from ..wire import GenerationRequest, GenerationResult
from .job import Job

if TYPE_CHECKING:
    from ..flux.text import Prompts

Text = tuple[str, tuple[tuple[int, int, float], ...]]
"""Words, and the weights of parts of them, as `WeightedText` has them."""
FILES = ("tokenizer", "tokenizer_2")


class Prompting:
    """Prepares prompts, and keeps the last model's tokenizers between them."""

    def __init__(self) -> None:
        self._loaded: tuple[object, tuple[Reader, Reader]] | None = None
        self._ahead: tuple[Path, list[GenerationRequest], list[Text]] | None = None

    def read(self, request: GenerationRequest, folder: ModelFolder, job: Job) -> FinalPrompt:
        """The prompt that is used; what has to be said of it is added to the job's note."""
        with job.stage("loading"):
            final = prepare(request, *self._readers(folder))
        job.note = " ".join(filter(None, (job.note, *final.notes)))
        return final

    def ahead(self, requests: Sequence[GenerationRequest], folder: ModelFolder) -> list[Text]:
        """What will be read for these, as far as this model paints them; each text once."""
        mine = [one for one in requests if one.model in ("", folder.name)]
        if self._ahead is None or self._ahead[:2] != (folder.path, mine):
            texts = [text for one in mine for text in texts_of(prepare(one, *self._readers(folder)), one)]
            self._ahead = (folder.path, mine, list(dict.fromkeys(texts)))
        return self._ahead[2]

    def shown(self, request: GenerationRequest, folder: ModelFolder, job: Job) -> GenerationResult:
        """The Result of the task show_prompt: no picture, the prompt and what is to be said of it in the plan."""
        final = self.read(request, folder, job)
        note = " ".join((*final.notes, *final.advice))
        plan = {"model": folder.name, **final.plan(), **({"note": note} if note else {})}
        return GenerationResult(request, plan=plan, timings=job.timings)

    def _readers(self, folder: ModelFolder) -> tuple[Reader, Reader]:
        """T5's and CLIP's, loaded now or still there; loaded again when a file of theirs has changed."""
        key = (folder.max_text_tokens, _state(folder))
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = (key, _load_readers(folder))
        return self._loaded[1]


def texts_of(final: FinalPrompt, request: GenerationRequest) -> list[Text]:
    """The texts that are read for a picture: what it shows, and at a true CFG what it does not."""
    used = (final.positive, final.negative) if request.true_cfg > 1.0 else (final.positive,)
    return [(one.text, one.spans) for one in used]


def _load_readers(folder: ModelFolder) -> tuple[Reader, Reader]:
    # Read by the library when it is first imported.
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import CLIPTokenizer, T5Tokenizer

    from ..flux.tokenizers import clip_limit, read_tokenizer, token_places

    clip = read_tokenizer(CLIPTokenizer, folder.parts["tokenizer"])
    t5 = read_tokenizer(T5Tokenizer, folder.parts["tokenizer_2"])
    return (
        Reader("T5", folder.max_text_tokens, 1, lambda text: token_places(t5, text)),
        Reader("CLIP", clip_limit(clip), 2, lambda text: token_places(clip, text)),
    )


def _state(folder: ModelFolder) -> tuple[object, ...]:
    paths = sorted(path for part in FILES for path in folder.parts[part].glob("*") if path.is_file())
    return tuple((str(path), status.st_size, status.st_mtime_ns) for path in paths for status in [path.stat()])


def engine_prompts(final: FinalPrompt) -> Prompts:
    """The same as the engine takes it."""
    from ..flux.text import Prompts, WeightedText

    return Prompts(
        WeightedText(final.positive.text, final.positive.spans), WeightedText(final.negative.text, final.negative.spans)
    )
