"""The ratio that the page takes apart is the one that decided."""

import numpy as np
import pytest

from powercut.samplers import EntropyCut, UniformCut
from powercut.trace import Trace
from powercut.view.payload import sampler_of
from powercut.view.terms import POINTS, terms_of
from tests.view.recorded import recorded

SIZES = {"max_new_tokens": 18, "blocks": 2, "steps": 25, "refine_finished": True}
SAMPLERS = {
    "entropy": EntropyCut(alpha=4, **SIZES),
    "mixed": EntropyCut(alpha=2, beta=1, uniform_mix=0.3, early_reject=False, **SIZES),
    "uniform": UniformCut(alpha=3, **SIZES),
    "tempered": UniformCut(alpha=3, temperature=0.5, **SIZES),
    "bonus": EntropyCut(alpha=2, length_bonus=0.3, **SIZES),
    "search": EntropyCut(alpha=float("inf"), temperature=0.5, **SIZES),
    "differing": EntropyCut(alpha=2, count="differing", **SIZES),
    "published": EntropyCut(alpha=2, rule="published", **SIZES),
    "decoded": EntropyCut(alpha=2, skip_repeats=False, **SIZES),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_terms_add_up_to_the_ratio_that_decided(name):
    _, _, chains = recorded(SAMPLERS[name], seed=4)
    chain = chains.by_place[0, 0]
    sampler = sampler_of(chain)
    assert sampler == SAMPLERS[name]
    current, steps = Trace.empty(), 0
    for proposal in chain.proposals:
        step, tail = proposal.step, proposal.drawn.trace
        if step is not None:
            terms = terms_of(sampler, current, tail, proposal.cut, sampler.horizons[proposal.stage])
            assert terms.total == step.log_accept
            assert terms.power + terms.proposal + terms.bonus + terms.cut == pytest.approx(terms.total, abs=1e-9)
            assert terms.curve[-1] == (len(tail), step.log_accept)
            assert len(terms.curve) == min(len(tail), POINTS)
            if sampler.target.monotone and sampler.rule == "exact":
                assert (np.diff([value for _, value in terms.curve]) <= 0).all()
            if step.early:
                assert step.log_accept < (5e-324 if step.log_u is None else step.log_u)
            steps += 1
        if step is None or step.accepted:
            current = current.splice(proposal.cut, tail)
    assert steps > 5


def test_a_proposal_without_tokens_has_no_terms():
    assert terms_of(SAMPLERS["entropy"], Trace.empty(), Trace.empty(), 0, 9) is None
