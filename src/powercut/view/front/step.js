// One step: what it did in a sentence, the ratio with its terms, and how the bound fell.

function stepPanel(chain, event) {
  const panel = el("section", { class: "card step", "aria-label": "The step" });
  const kind = event.step === undefined ? "extended" : event.accepted ? "accepted" : "rejected";
  const chip = el("span", { class: `chip ${kind}` }, verdict(event));
  panel.append(el("h2", null, nameOf(event)[0].toUpperCase() + nameOf(event).slice(1), " ", chip));
  if (event.step === undefined) {
    const more = `${plural(event.n, "token")} more, from ${whole(event.cut)} to ${whole(event.after.length)}`;
    panel.append(el("p", null, `Stage ${event.stage + 1} opens: ${more}.`));
    return panel;
  }
  const nulls = event.nulls ? ` ${plural(event.nulls, "null step")} passed over before it.` : "";
  const repeated = event.shared ? `, the first ${whole(event.shared)} as they stood` : "";
  panel.append(el("p", null,
    `Re-opened at token ${whole(event.cut)} of ${whole(event.before.length)}, in stage ${event.stage + 1}. ` +
    `Proposed ${plural(event.proposal.length, "token")}${repeated}; ${whole(event.decoded)} decoded.${nulls}`));
  if (chain.answers.length && event.proposedAnswer >= 0) {
    panel.append(el("p", null, "It answers ", el("b", null, chain.answers[event.proposedAnswer]),
      event.accepted ? "." : `; the text stays with ${chain.answers[event.answer] ?? "none"}.`));
  }
  panel.append(ratioTable(chain, event), boundPlot(event) ?? "");
  return panel;
}

function ratioTable(chain, event) {
  const { terms } = event, alpha = numberOf(chain.settings?.alpha);
  const rows = [];
  if (terms && Number.isFinite(alpha)) {
    rows.push([`α · gain in log p`, terms.power], ["− gain in log q", terms.proposal], ["cut law", terms.cut]);
    if (numberOf(terms.bonus)) rows.push(["length bonus", terms.bonus]);
  } else if (terms) rows.push(["gain in log p", terms.power]);
  const most = Math.max(1e-9, ...rows.map(([, value]) => Math.abs(numberOf(value))).filter(Number.isFinite));
  const bar = (value) => {
    const x = numberOf(value), width = Number.isFinite(x) ? 40 * Math.abs(x) / most : 40;
    return svg("svg", { width: 84, height: 12, "aria-hidden": "true" }, line(42, 0, 42, 12, { class: "grid" }),
      rect(x < 0 ? 42 - width : 42, 2, width, 8, { class: x < 0 ? "loss" : "gain" }));
  };
  const row = (name, value, shown = null, kind = null) => el("tr", { class: kind }, el("th", { scope: "row" }, name),
    el("td", null, signed(value)), el("td", null, shown));
  const total = event.early ? "log A, at most" : "log A";
  const several = Number(chain.settings?.tries ?? 1) > 1;
  const caption = `The acceptance ratio, in nats${several ? " (terms of the try shown)" : ""}`;
  return el("table", { class: "ratio" }, el("caption", null, caption),
    el("tbody", null, rows.map(([name, value]) => row(name, value, bar(value))),
      row(total, event.logAccept, null, "sum"), event.logU === null ? null : row("needed: log u", event.logU)));
}

function boundPlot(event) {
  const curve = (event.terms?.curve ?? []).map(([t, value]) => [t, numberOf(value)]);
  const points = curve.filter(([, value]) => Number.isFinite(value));
  if (points.length < 2) return null;
  const needed = numberOf(event.logU), width = 300, high = 96, left = 40, top = 8;
  const values = points.map(([, v]) => v).concat(Number.isFinite(needed) ? [needed] : []);
  const low = Math.min(...values), most = Math.max(...values), end = points[points.length - 1][0];
  const x = scale(0, end, left, width - 8), y = scale(low, most, top + high, top);
  const words = `${event.early ? "The bound on log A" : "log A"} fell from ${nats(points[0][1])} ` +
    `to ${nats(points[points.length - 1][1])} over ${plural(end, "token")}` +
    (Number.isFinite(needed) ? `; ${nats(needed)} was needed.` : ".");
  const view = `0 0 ${width} ${top + high + 24}`;
  const plot = svg("svg", { viewBox: view, role: "img", "aria-label": words, class: "bound" });
  for (const t of niceTicks(low, most, 3)) {
    plot.append(line(left, y(t), width - 8, y(t), { class: "grid" }),
      text(left - 5, y(t) + 4, tick(t), { class: "axis end" }));
  }
  const d = points.map(([t, value], i) => `${i ? "L" : "M"}${x(t).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  plot.append(svg("path", { d, class: "curve" }));
  if (Number.isFinite(needed)) {
    plot.append(line(left, y(needed), width - 8, y(needed), { class: "needed" }),
      text(width - 8, y(needed) - 4, "log u", { class: "axis end" }));
  }
  const [lastT, lastV] = points[points.length - 1];
  plot.append(svg("circle", { cx: x(lastT), cy: y(lastV), r: 3.5, class: event.accepted ? "accepted" : "rejected" }),
    text(left, top + high + 18, `tokens of the proposal → ${whole(end)}`, { class: "axis" }));
  return el("figure", null, plot, el("figcaption", null, words));
}
