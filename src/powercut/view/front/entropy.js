// A completion that nothing changed: no steps to draw, but how unsure the model was before each of its tokens.

class EntropyPicture {
  constructor(pool, tokens, choose) {
    Object.assign(this, { pool, tokens, choose });
    this.node = el("div", { class: "picture" });
    this.place = el("div", { class: "plot" });
    this.node.append(this.place, legend([["entropy", "entropy before the token"],
      ["jump", `a jump of ${JUMP} or more`]]));
    new ResizeObserver(() => this.draw()).observe(this.place);
  }

  draw() {
    const { pool, tokens } = this, outer = this.place.clientWidth;
    if (!outer || outer === this.drawn) return;
    this.drawn = outer;
    const left = 46, right = 10, top = 18, high = 96, height = top + high + 22;
    const entropies = Array.from(tokens, (k) => pool.entropyOf(k));
    const step = Math.min(28, (outer - left - right) / Math.max(1, tokens.length));
    const most = Math.max(1, ...entropies), x = (t) => left + t * step, y = scale(0, most, top + high, top);
    const picture = canvas(outer, height, this.summary(entropies));
    picture.append(text(left, 11, "entropy before each token, nats", { class: "axis" }));
    for (const t of niceTicks(0, most, 3)) {
      picture.append(line(left, y(t), x(tokens.length), y(t), { class: "grid" }),
        text(left - 6, y(t) + 4, tick(t), { class: "axis end" }));
    }
    entropies.forEach((entropy, t) => {
      const jump = jumpAt(entropies, t) >= JUMP;
      picture.append(rect(x(t), y(entropy), Math.max(1, step - 1), y(0) - y(entropy),
        { class: jump ? "jumped" : "unsure" }));
    });
    for (const t of niceTicks(0, tokens.length, outer / 90)) {
      if (Number.isInteger(t)) picture.append(text(x(t), height - 6, tick(t), { class: "axis middle" }));
    }
    picture.addEventListener("click", (event) => {
      const t = Math.floor((event.clientX - picture.getBoundingClientRect().left - left) / step);
      if (t >= 0 && t < tokens.length) this.choose(t);
    });
    this.place.replaceChildren(picture);
  }

  summary(entropies) {
    const jumps = entropies.filter((_, t) => jumpAt(entropies, t) >= JUMP).length, most = Math.max(...entropies);
    return `Entropy before each of ${plural(entropies.length, "token")}: ${nats(most)} nats at most, before token ` +
      `${whole(entropies.indexOf(most))}; ${plural(jumps, "jump")} of ${JUMP} nats or more.`;
  }
}

const jumpAt = (entropies, t) => entropies[t] - (t > 0 ? entropies[t - 1] : 0);
