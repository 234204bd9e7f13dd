"""What goes wrong for a user: one line that names the setting and the remedy."""


class PowercutError(Exception):
    """Base of every error that powercut raises on purpose; its text is one line for the user."""


class SettingError(PowercutError, ValueError):
    """A setting or an input that cannot be used; the text names it and says what to give instead."""


class EngineError(PowercutError, RuntimeError):
    """An engine that cannot be loaded, or that failed while decoding."""


class BudgetError(PowercutError):
    """A completion that was not started because the tokens allowed for the run were spent."""
