"""Text of the simplest kind, for models that are tables."""


class Letters:
    """The letters of ``alphabet``, one a token: token 0 is the first of them."""

    has_chat_template = False

    def __init__(self, alphabet):
        self._alphabet = alphabet

    async def encode(self, text):
        return [self._alphabet.index(letter) for letter in text]

    async def encode_chat(self, messages, template_args=None):
        raise AssertionError("there is no template")

    async def is_rendered(self, text):
        return False

    async def decode(self, tokens):
        return self.decode_now(tokens)

    def decode_now(self, tokens):
        return "".join(self._alphabet[token] for token in tokens)
