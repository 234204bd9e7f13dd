// One token: how likely it was, what else was likely, how often it was cut here and what it outlived.

// What steps did at a position up to an event: how often they cut there, how often they re-opened this token.
function historyOf(events, upTo, position, token) {
  let cuts = 0, opened = 0, since = null;
  for (let i = 0; i < Math.min(upTo, events.length); i++) {
    const event = events[i];
    if (event.step !== undefined && event.cut === position) cuts++;
    if (event.before[position] === token && event.step !== undefined && event.cut <= position) opened++;
    if (event.after[position] === token && event.before[position] !== token) { since = event; opened = 0; }
  }
  return { cuts, opened, since };
}

function tokenPanel(shown, i, { history, branch }) {
  const { pool } = shown, k = shown.tokens[i], { text: spelt } = shown.texts[i];
  const panel = el("section", { class: "card token", "aria-label": "The token" });
  const position = shown.first + i;
  panel.append(el("h2", null, el("code", null, label(spelt) || "…"), ` token ${whole(position)}`));
  if (k < 0) { panel.append(el("p", null, `Of the prompt; id ${pool.tokenIds[pool.id(k)]}.`)); return panel; }
  const p = Math.exp(pool.logp(k)), entropy = pool.entropyOf(k), jump = shown.jump(i);
  const facts = [["probability", percent(p)], ["log p", nats(pool.logp(k))],
    ["entropy before it", `${nats(entropy)} nats`], [jump >= 0 ? "jump" : "fall", `${nats(Math.abs(jump))} nats`]];
  if (history) {
    facts.push(["cut here", plural(history.cuts, "time")]);
    facts.push(["survived", history.opened ? plural(history.opened, "re-opening") : "no re-opening yet"]);
    if (history.since) facts.push(["here since", nameOf(history.since)]);
  }
  panel.append(el("dl", null, facts.map(([name, value]) => [el("dt", null, name), el("dd", null, value)])));
  const likely = pool.likely(k), own = pool.id(k);
  if (likely.length) {
    const rows = likely.some(([id]) => id === own) ? likely : [...likely, [own, p]];
    const bar = (q) => svg("svg", { width: 90, height: 10, "aria-hidden": "true" },
      rect(0, 1, 90 * q, 8, { class: "gain" }));
    panel.append(el("table", { class: "likely" }, el("caption", null, "The most likely here"),
      el("tbody", null, rows.map(([id, q]) => el("tr", { class: id === own ? "own" : null },
        el("th", { scope: "row" }, el("code", null, label(spell(pool, [id])[0].text)), id === own ? " ◂ drawn" : ""),
        el("td", null, bar(q)), el("td", null, percent(q)))))));
  } else {
    const why = pool.tellsLikely ? "Nothing else was likely." : "What else was likely is not in the file.";
    panel.append(el("p", { class: "soft" }, why));
  }
  if (branch) panel.append(branch(position));
  return panel;
}

// The same in a sentence, for those who hear it.
function tokenWords(shown, i) {
  const k = shown.tokens[i], name = label(shown.texts[i].text);
  if (k < 0) return `${name}, of the prompt`;
  const { pool } = shown, p = percent(Math.exp(pool.logp(k)));
  return `${name}, token ${shown.first + i}, probability ${p}, entropy ${nats(pool.entropyOf(k))}`;
}
