// What there is to see of a completion, for each kind: where one can go, and the texts that are shown there.

// A view of one completion: positions 0 .. last, each with texts to show.
function chainView(chain) {
  const events = unroll(chain.events);
  if (events.length === 1) return drawnView(chain, events[0].after);
  const picture = new ChainPicture(chain, events, go);
  return {
    picture, events, last: events.length, changes: events.map((event) => event.changed),
    name: (at) => (events[at] ? `${nameOf(events[at])}: ${verdict(events[at])}` : "the final text"),
    hash: (at) => (events[at] ? hashOf(events[at]) : ""),
    find: (hash) => events.findIndex((event) => (hash.step ?? hash.stage) && isAt(event, hash)),
    show: (at) => { picture.show(at); return chainTexts(chain, events, at); },
    history: (at, position, token) => historyOf(events, events[at] ? at + 1 : at, position, token),
  };
}

const hashOf = (event) => (event.step === undefined ? `stage=${event.stage + 1}` : `step=${event.step}`);
const isAt = (event, hash) =>
  hash.step ? event.step === hash.step : event.step === undefined && event.stage + 1 === hash.stage;

// A completion that is all its first extension: there is nowhere to go.
function drawnView(chain, tokens) {
  const picture = new EntropyPicture(chain.pool, tokens, (t) => pick(state.shown[0], t, { speak: true }));
  const texts = [{ title: "Final text", tokens }];
  return {
    picture, last: 0, most: 0, changes: [], name: () => "", hash: () => "", find: () => -1, show: () => texts,
  };
}

function chainTexts(chain, events, at) {
  const event = events[at];
  if (!event) return [{ title: "Final text", tokens: events[events.length - 1].after }];
  if (event.step === undefined) {
    return [{ title: `Text after the extension to ${whole(event.after.length)} tokens`, tokens: event.after,
      classOf: (i) => (i >= event.cut ? "new" : "") }];
  }
  const ids = (tokens) => Array.from(tokens.subarray(event.cut), (k) => chain.pool.id(k));
  const proposed = new Int32Array(event.cut + event.proposal.length);
  proposed.set(event.before.subarray(0, event.cut));
  proposed.set(event.proposal, event.cut);
  const [inOld, inNew] = commonTokens(ids(event.before), ids(proposed));
  const shownFrom = Math.max(0, event.cut - 60);
  const mark = (i) => (i === event.cut ? el("b", { class: "cutmark", title: "the cut" }, "✂") : null);
  const repeatedTo = event.cut + event.shared, kind = event.accepted ? "accepted" : "rejected";
  return [
    { title: "Text before the step", tokens: event.before, shownFrom, before: mark,
      classOf: (i) => (i < event.cut ? "kept" : inOld[i - event.cut] ? "" : "gone") },
    { title: `Proposal, ${verdict(event)}`, tokens: proposed, shownFrom, before: mark, kind,
      end: event.early ? "⊣ cut short here" : null,
      classOf: (i) =>
        (i < event.cut ? "kept" : i < repeatedTo ? "repeated" : inNew[i - event.cut] ? "" : `new ${kind}`) },
  ];
}

function particlesView(chain) {
  const blocks = grow(chain.blocks), sizes = blocks.map((b) => b.tokens.length), starts = [0];
  sizes.forEach((size) => starts.push(starts[starts.length - 1] + size));
  const split = (at) => {
    const block = starts.findLastIndex((start) => start <= at);
    return [block, at - starts[block]];
  };
  const picture = new ParticlesPicture(chain, blocks, (block, i) => go(starts[block] + i));
  const final = starts[blocks.length - 1] + Math.max(0, blocks[blocks.length - 1].chosen);
  const words = (at) => {
    const [b, i] = split(at);
    return `block ${b + 1}, ${picture.words.one} ${i}: ${picture.words.share} ${percent(blocks[b].shares[i])}`;
  };
  return {
    picture, last: final, name: words, changes: [],
    hash: (at) => { const [b, i] = split(at); return at === final ? "" : `block=${b + 1}&particle=${i}`; },
    find: (hash) => (hash.block ? starts[hash.block - 1] + (hash.particle ?? 0) : -1),
    stride: (at, by) => {
      const [b, i] = split(at), to = Math.min(blocks.length - 1, Math.max(0, b + by));
      return starts[to] + Math.min(i, sizes[to] - 1);
    },
    show: (at) => {
      const [b, i] = split(at), tokens = blocks[b].tokens[i], from = blocks[b].kept[i];
      picture.show(b, i);
      const end = blocks[b].finished[i] ? "finished" : "unfinished";
      const title = `${words(at)}, log p ${nats(blocks[b].logp[i])}, ${end}`;
      return [{ title, tokens, classOf: (t) => (t >= from && from ? "new" : "") }];
    },
  };
}

function candidatesView(chain) {
  const order = ranked(chain), picture = new CandidatesPicture(chain, order, go);
  const chosen = Math.max(0, order.findIndex((i) => chain.candidates[i].chosen));
  return {
    picture, last: chosen, most: order.length - 1, changes: [], name: (at) => `candidate ${at + 1} of ${order.length}`,
    hash: (at) => (at === chosen ? "" : `candidate=${at + 1}`),
    find: (hash) => (hash.candidate ? hash.candidate - 1 : -1),
    show: (at) => {
      const one = chain.candidates[order[at]];
      picture.show(at);
      return [{ title: `Candidate ${at + 1}${one.chosen ? ", returned" : ""}`,
        tokens: Int32Array.from({ length: one.n }, (_, i) => one.start + i) }];
    },
  };
}

const VIEWS = { chain: chainView, particles: particlesView, candidates: candidatesView };
