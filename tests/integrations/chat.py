"""A small table model with a chat template of letters."""

from __future__ import annotations

from typing import Any

from tests.cli.fake import FakeEngine, LetterText


class ChatText(LetterText):
    """Puts each role's mark before its messages; ``asked`` are the variables that the template was given."""

    has_chat_template = True

    def __init__(self, marks: dict[str, str]) -> None:
        self.marks, self.asked = marks, list[object]()

    async def encode_chat(self, messages: Any, template_args: object = None) -> list[int]:
        self.asked.append(template_args)
        return self.ids("".join(self.marks.get(message["role"], "") + message["content"] for message in messages))


class ChatEngine(FakeEngine):
    def __init__(self, **marks: str) -> None:
        super().__init__()
        self.text = ChatText(marks)
