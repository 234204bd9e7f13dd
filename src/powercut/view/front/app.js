// The page: which completion, where in it, and the keys.

const state = { chain: null, shown: [], cursor: null, hits: [], hit: -1 };
const say = (words) => { $("said").textContent = words; };

const KEYS = [["← →", "step back, step forward"], ["Home End", "the first step, the final text"],
  ["n N", "next, previous change of the text"], ["[ ]", "previous, next token"],
  ["u U", "next, previous uncertain token"], ["/", "search the text"], ["Esc", "leave the search"],
  ["Enter", facts.branches ? "branch from the token chosen" : "the token chosen"], ["?", "these keys"]];

function go(at, { push = true } = {}) {
  const { view, chain } = state, most = view.events ? view.last : view.most ?? Infinity;
  state.at = Math.min(most, Math.max(0, at));
  state.shown.forEach((shown) => shown.close());
  const texts = view.show(state.at);
  state.shown = texts.map((each) => new TokenText(chain.pool, each.tokens,
    { name: each.title, onpick: pick, onhover: pick, ...each }));
  const columns = texts.map((each, i) => el("section", { class: `column-of-text ${each.kind ?? ""}` },
    el("h2", null, each.title), state.shown[i].box, each.end ? el("p", { class: "soft" }, each.end) : null));
  $("texts").replaceChildren(...columns);
  $("texts").classList.toggle("two", columns.length > 1);
  const event = view.events?.[state.at];
  $("panel").replaceChildren(...(event ? [stepPanel(chain, event)] : [summaryPanel(chain)]));
  $("where").textContent = view.name(state.at);
  state.cursor = null;
  $("token").replaceChildren(hint());
  if (event?.step !== undefined) {
    state.shown.forEach((shown) => shown.reveal(Math.min(event.cut, shown.tokens.length - 1)));
  }
  if (push) {
    const parts = [state.index ? `chain=${state.index + 1}` : "", view.hash(state.at)].filter(Boolean).join("&");
    history.replaceState(null, "", parts ? `#${parts}` : location.pathname + location.search);
    say(view.name(state.at));
  }
  search($("search").value, false);
}

const HINT = "Hover over a token, or choose one with [ and ]: its probability, what else was likely, " +
  "how often it was cut here.";
const hint = () => el("section", { class: "card token soft" }, el("p", null, HINT));

function summaryPanel(chain) {
  const settings = Object.entries(chain.settings ?? {}).map(([name, value]) => `${name} ${value}`).join(", ");
  const given = (value, words) => (value === null || value === undefined ? null : words(value)), { stats } = chain;
  const rows = [["model", chain.model], ["sampler", chain.sampler],
    ["log p", given(chain.logp, (x) => `${nats(x)} nats`)],
    ["tokens", given(chain.tokens, (n) => `${whole(n)}, ${chain.finished ? "finished" : "cut off"}`)],
    ["decoded", given(stats?.tokens_decoded, (n) => plural(n, "token"))], ["seed", chain.seed],
    ["log Z", given(stats?.log_z, nats)]].filter(([, value]) => value !== null && value !== undefined);
  return el("section", { class: "card", "aria-label": "The completion" }, el("h2", null, "The completion"),
    el("dl", null, rows.map(([name, value]) => [el("dt", null, name), el("dd", null, String(value))])),
    settings ? el("details", null, el("summary", null, "settings"), el("p", { class: "soft" }, settings)) : null);
}

function pick(shown, i, { speak = false } = {}) {
  document.querySelectorAll(".t.picked").forEach((span) => span.classList.remove("picked"));
  shown.reveal && speak ? shown.reveal(i)?.classList.add("picked") : shown.spans.get(i)?.classList.add("picked");
  state.cursor = { shown, i };
  const own = state.shown.includes(shown), { view } = state;
  const history = own && view.history ? view.history(state.at, i, shown.tokens[i]) : null;
  const can = facts.branches && own && shown.tokens[i] >= 0;
  const branch = can ? (position) => state.branches.offer(shown, position) : null;
  $("token").replaceChildren(tokenPanel(shown, i, { history, branch }));
  if (speak) say(tokenWords(shown, i));
}

// The next token for which test holds, from the one chosen on; the last text shown is the one that is walked.
function walk(by, test) {
  const shown = state.cursor?.shown ?? state.shown[state.shown.length - 1];
  const start = state.cursor ? state.cursor.i : (state.view.events?.[state.at]?.cut ?? 0) - (by > 0 ? 1 : 0);
  for (let i = start + by; i >= 0 && i < shown.tokens.length; i += by) {
    if (test(shown, i)) return pick(shown, i, { speak: true });
  }
  say("no more such tokens");
}

function search(words, move = true) {
  document.querySelectorAll(".t.hit").forEach((span) => span.classList.remove("hit"));
  state.hits = [];
  if (words) state.shown.forEach((shown) => find(shown, words.toLowerCase()));
  $("found").textContent = words ? plural(state.hits.length, "match", "matches") : "";
  if (move) { state.hit = -1; if (state.hits.length) toHit(1); }
}

function find(shown, words) {
  let all = "";
  const starts = shown.texts.map(({ text }) => { const at = all.length; all += text; return at; });
  all = all.toLowerCase();
  for (let at = all.indexOf(words), i = 0; at >= 0; at = all.indexOf(words, at + words.length)) {
    while (i + 1 < starts.length && starts[i + 1] <= at) i++;
    state.hits.push({ shown, i });
    for (let j = i; j < starts.length && starts[j] < at + words.length; j++) {
      (shown.spans.get(j) ?? shown.span(j)).classList.add("hit");
    }
  }
}

function toHit(by) {
  if (!state.hits.length) return;
  state.hit = (state.hit + by + state.hits.length) % state.hits.length;
  const { shown, i } = state.hits[state.hit];
  pick(shown, i, { speak: true });
}

const ACTIONS = {
  ArrowLeft: () => go(state.view.stride ? state.view.stride(state.at, -1) : state.at - 1),
  ArrowRight: () => go(state.view.stride ? state.view.stride(state.at, 1) : state.at + 1),
  Home: () => go(0),
  End: () => go(state.view.last),
  n: () => jumpTo(state.view.changes.findIndex((changed, i) => changed && i > state.at)),
  N: () => jumpTo(state.view.changes.findLastIndex((changed, i) => changed && i < state.at)),
  "]": () => walk(1, () => true),
  "[": () => walk(-1, () => true),
  u: () => walk(1, (shown, i) => shown.tokens[i] >= 0 && shown.pool.entropyOf(shown.tokens[i]) >= shown.unsure),
  U: () => walk(-1, (shown, i) => shown.tokens[i] >= 0 && shown.pool.entropyOf(shown.tokens[i]) >= shown.unsure),
  "/": () => { $("search").focus(); $("search").select(); },
  "?": () => { const keys = $("keys"); keys.open = !keys.open; if (keys.open) keys.querySelector("summary").focus(); },
  Enter: () => {
    if (facts.branches && state.cursor) state.branches.draw(state.cursor.shown, state.cursor.i, BRANCHES);
  },
};
const jumpTo = (at) => (at >= 0 ? go(at) : say("no more changes"));

function onkey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input:not([type=range]), select");
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    if (event.key === "Enter" && event.target === $("search")) {
      event.preventDefault();
      toHit(event.shiftKey ? -1 : 1);
    }
    return;
  }
  if (event.target.matches("[type=range]") && event.key.startsWith("Arrow")) return;
  if (event.key === "Enter" && event.target.matches("button, summary, a")) return;
  const action = ACTIONS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

function hashed() {
  const found = new URLSearchParams(location.hash.slice(1)), hash = {};
  for (const name of ["chain", "step", "stage", "block", "particle", "candidate"]) {
    if (found.has(name)) hash[name] = Number(found.get(name));
  }
  return hash;
}

async function open(index, { push = true } = {}) {
  state.index = index;
  state.chain = await loadPayload(index);
  state.view = VIEWS[state.chain.kind](state.chain);
  state.branches = new Branches(state.chain, pick);
  const button = (name, title, onclick) => el("button", { type: "button", title, onclick }, name);
  const { model, sampler, settings } = state.chain;
  const alpha = settings?.alpha ? `α ${tick(numberOf(settings.alpha))}` : "";
  $("what").textContent = [model, sampler, alpha].filter(Boolean).join(" · ");
  const prompt = Int32Array.from(state.chain.prompt, (v) => -1 - v), still = state.view.most === 0;
  $("main").replaceChildren(
    prompt.length ? el("details", { class: "prompt" }, el("summary", null, `Prompt, ${plural(prompt.length, "token")}`),
      new TokenText(state.chain.pool, prompt, { name: "Prompt", onpick: pick }).box) : "",
    state.view.picture.node,
    el("nav", { class: "bar", "aria-label": "Steps" },
      still ? "" : [button("◀", "back (←)", ACTIONS.ArrowLeft), button("▶", "forward (→)", ACTIONS.ArrowRight)],
      state.view.events ? button("next change", "n", ACTIONS.n) : "", button("uncertain token", "u", ACTIONS.u),
      still ? "" : button(state.view.events ? "final text" : "the one returned", "End", ACTIONS.End),
      el("strong", { id: "where" }),
      el("span", { class: "grow" }),
      el("input", { id: "search", type: "search", placeholder: "search ( / )", "aria-label": "Search the text" }),
      el("span", { id: "found", class: "soft", "aria-live": "polite" })),
    el("div", { class: "below" },
      el("div", { class: "left" }, el("div", { id: "texts" }), state.branches.node, tintKey()),
      el("aside", null, el("div", { id: "panel" }), el("div", { id: "token" }))));
  state.view.picture.draw?.();  // it has its width now; an observer tells of it only after the first frame
  $("search").addEventListener("input", (event) => search(event.target.value));
  const at = state.view.find(hashed());
  go(at >= 0 ? at : state.view.last, { push });
}

function tintKey() {
  const ramp = [0, 0.25, 0.5, 1, 2, 4].map((entropy) => el("span", { class: `t h${tint(entropy)}` }, `${entropy}`));
  return el("p", { class: "tint soft" }, "entropy before a token, nats: ", ramp, " ",
    el("span", { class: "t jump" }, " a"), ` jump of ${JUMP} or more`);
}

async function start() {
  const choose = el("select", { id: "which", "aria-label": "Which completion" },
    facts.labels.map((words, i) => el("option", { value: i }, words)));
  choose.addEventListener("change", () => {
    history.replaceState(null, "", location.pathname + location.search);
    open(Number(choose.value));
  });
  $("head").append(el("h1", null, facts.title), el("p", { id: "what", class: "soft" }),
    facts.labels.length > 1 ? choose : "",
    el("details", { id: "keys" }, el("summary", null, "Keys"),
      el("dl", null, KEYS.map(([keys, words]) => [el("dt", null, el("kbd", null, keys)), el("dd", null, words)]))));
  const notes = facts.notes.map((note) => el("li", null, note));
  if (notes.length) $("head").append(el("ul", { class: "notes" }, notes));
  const sends = `sends nothing${facts.branches ? ", but asks its own server for branches" : ""}`;
  $("foot").append(`powercut ${facts.version}. The page is whole: it loads nothing and ${sends}.`);
  const index = Math.min(facts.labels.length, Math.max(1, hashed().chain ?? 1)) - 1;
  choose.value = index;
  document.addEventListener("keydown", onkey);
  window.addEventListener("hashchange", () => {
    const hash = hashed(), next = Math.min(facts.labels.length, Math.max(1, hash.chain ?? 1)) - 1;
    if (next !== state.index) { choose.value = next; open(next, { push: false }); return; }
    const at = state.view.find(hash);
    go(at >= 0 ? at : state.view.last, { push: false });
  });
  await open(index, { push: false });
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  $("main").replaceChildren(el("p", { class: "notes" },
    `This page cannot be shown: ${error.message}. A browser of 2023 or later is needed.`));
  throw error;
});
