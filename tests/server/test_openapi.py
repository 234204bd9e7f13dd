"""Requests of every shape that the OpenAPI page allows, and of shapes that it does not: none makes the server fail."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

from powercut import TableEngine
from powercut.server.app import Bounds, create_app
from powercut.server.offer import Offer
from tests.server.serving import NAME, PATIENCE, LettersEngine, serving

PAGE = create_app(Offer(NAME, LettersEngine(), "entropy-cut", {}), Bounds()).openapi()
OPERATIONS = [each.ok() for each in schemathesis.openapi.from_dict(PAGE).get_all_operations()]
CASES = [
    pytest.param(operation, mode, id=f"{operation.label} {mode.value}")
    for operation in OPERATIONS
    for mode in (GenerationMode if operation.body else [GenerationMode.POSITIVE])
]
KNOWN = {name for each in PAGE["components"]["schemas"].values() for name in each.get("properties", ())}
"""All fields that the page names."""


class SteadyEngine(LettersEngine):
    """Has no prompt that hangs, fails or breaks."""

    async def extend(self, request, keep_going=None):
        return await TableEngine.extend(self, request, keep_going)


@pytest.fixture(scope="module")
def steady():
    with serving(SteadyEngine(), patterns=True) as found:
        yield found


@pytest.mark.parametrize(("operation", "mode"), CASES)
def test_no_request_makes_the_server_fail(steady, operation, mode):
    def check(case):
        answer = case.call(base_url=steady.root, timeout=PATIENCE)
        case.validate_response(answer, checks=[not_a_server_error])
        if answer.status_code >= 400:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

    @given(operation.as_strategy(generation_mode=mode))
    @settings(max_examples=30, derandomize=True, database=None, deadline=None, suppress_health_check=[*HealthCheck])
    def check_both(case):
        check(case)
        if isinstance(case.body, dict):  # most have fields that are refused: without these they come further
            case.body = {name: value for name, value in case.body.items() if name in KNOWN - {"model", "sampler"}}
            check(case)

    check_both()
