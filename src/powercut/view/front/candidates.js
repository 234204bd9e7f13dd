// Candidates by their score: a table whose bars are the picture.

class CandidatesPicture {
  constructor(chain, order, choose) {
    Object.assign(this, { chain, order, choose });
    const scores = order.map((i) => numberOf(chain.candidates[i].score)).filter(Number.isFinite);
    const low = Math.min(...scores), most = Math.max(...scores);
    const votes = new Map();
    chain.candidates.forEach(({ answer }) => votes.set(answer, (votes.get(answer) ?? 0) + 1));
    this.rows = order.map((i, rank) => {
      const one = chain.candidates[i], score = numberOf(one.score);
      const width = Number.isFinite(score) ? (most > low ? 12 + 148 * (score - low) / (most - low) : 160) : 0;
      const pick = el("button", { type: "button", class: "pick" }, `${rank + 1}`, one.chosen ? " ★ returned" : "");
      pick.addEventListener("click", () => choose(rank));
      const words = chain.answers[one.answer];
      const bar = svg("svg", { width: 164, height: 12, "aria-hidden": "true" },
        rect(0, 1, width, 10, { class: one.chosen ? "accepted" : "extended", rx: 2 }));
      return el("tr", null, el("th", { scope: "row" }, pick), el("td", null, bar), el("td", null, nats(score, 3)),
        el("td", null, nats(one.logp)), el("td", null, whole(one.n)),
        el("td", { class: "left" }, el("i", { class: `key ${answerClass(one.answer)}` }), words ? label(words) : "none",
          chain.by === "votes" && one.answer >= 0 ? ` (${plural(votes.get(one.answer), "vote")})` : ""));
    });
    const heads = ["", "", chain.by === "votes" ? "log p per token" : chain.by, "log p", "tokens", "answer"];
    this.node = el("div", { class: "picture" }, el("div", { class: "wide" }, el("table", { class: "candidates" },
      el("caption", null, `${plural(order.length, "candidate")}, the best by ${chain.by} first`),
      el("thead", null, el("tr", null, heads.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", null, this.rows))));
  }

  show(rank) { this.rows.forEach((row, i) => row.classList.toggle("at", i === rank)); }
}

// The ranks of candidates: by votes first where these decide.
function ranked(chain) {
  const votes = new Map();
  chain.candidates.forEach(({ answer }) => votes.set(answer, (votes.get(answer) ?? 0) + (answer >= 0 ? 1 : 0)));
  const of = (i) => (chain.by === "votes" ? votes.get(chain.candidates[i].answer) : 0);
  const score = (i) => numberOf(chain.candidates[i].score) ?? -Infinity;
  return chain.candidates.map((_, i) => i).sort((a, b) => of(b) - of(a) || score(b) - score(a) || a - b);
}
