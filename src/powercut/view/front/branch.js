// Branch from here: new continuations from a token on, drawn by the model behind this page.

const BRANCHES = 4;

class Branches {
  constructor(chain, onpick) {
    Object.assign(this, { chain, onpick });
    this.node = el("section", { class: "branches", "aria-label": "Branches", hidden: true });
    this.drawn = 0;
  }

  // A button for the panel of a token at a position of a text.
  offer(shown, position) {
    const many = el("input", { type: "number", min: 1, max: 16, value: BRANCHES, "aria-label": "How many" });
    const go = el("button", { type: "button", class: "branch" }, "Branch from here");
    go.addEventListener("click", () => {
      const count = Math.min(16, Math.max(1, Number(many.value) || BRANCHES));
      this.draw(shown, position, count, Number(heat.value) || null);
    });
    const heat = el("input", { type: "number", min: 0.05, max: 5, step: 0.05, placeholder: "as drawn",
      "aria-label": "Temperature, as the chain's if empty" });
    return el("p", { class: "offer" }, go, " ", many, " at temperature ", heat);
  }

  async draw(shown, position, count, temperature = null) {
    const { pool } = shown, tokens = Array.from(shown.tokens.subarray(0, position), (k) => pool.tokenIds[pool.id(k)]);
    const list = el("div", { class: "several" });
    this.node.hidden = false;
    this.node.replaceChildren(el("h2", null, `From token ${whole(position)} on`), list);
    this.node.scrollIntoView({ block: "nearest" });
    await Promise.all(Array.from({ length: count }, async () => {
      const card = el("article", { class: "branch-card" }, el("p", { class: "soft" }, "drawing …"));
      list.append(card);
      try {
        const answer = await fetch("branch", { method: "POST", headers: { "content-type": "application/json" },
          body: JSON.stringify({ place: this.chain.place, tokens, seed: this.drawn++, temperature }) });
        const found = await answer.json();
        if (!answer.ok) throw new Error(found.error ?? answer.statusText);
        this.fill(card, await readPayload(found.data));
      } catch (error) {
        card.replaceChildren(el("p", { class: "soft" }, `No branch: ${error.message}`));
      }
    }));
  }

  fill(card, { pool, logp, count, answer, finished }) {
    const tokens = Int32Array.from({ length: count }, (_, i) => i);
    const shown = new TokenText(pool, tokens, { name: "A branch", onpick: this.onpick, first: 0 });
    const words = [`log p ${nats(logp)}`, plural(count, "token"), finished ? "finished" : "cut off",
      answer === null ? "no answer" : `answer ${label(answer)}`];
    card.replaceChildren(el("p", { class: "soft" }, words.join(" · ")), shown.box);
  }
}
