// Particles: blocks across, particles down, lines from parent to child, the size of each its weight.

const PARTICLE_WORDS = {
  smc: { one: "particle", several: "particles", share: "weight", particle: "a particle; its size is its weight",
    ancestor: "of the completion returned", dead: "no descendants", stage: "resampled" },
  tmc: { one: "candidate", several: "candidates", share: "chance", particle: "a candidate; its size is its chance",
    ancestor: "the one drawn", dead: "not drawn", stage: "all go on from the one drawn" },
};

// The tokens of every particle at the end of every block, and its share of the weight.
function grow(blocks) {
  let before = [];
  return blocks.map((block) => {
    const tokens = block.parents.map((parent, i) => {
      const old = before[parent] ?? new Int32Array(0), kept = block.kept[i];
      const own = new Int32Array(kept + block.n[i]);
      own.set(old.subarray(0, kept));
      for (let j = 0; j < block.n[i]; j++) own[kept + j] = block.start[i] + j;
      return own;
    });
    before = tokens;
    const weights = block.logWeights.map(numberOf), most = Math.max(...weights);
    const raw = weights.map((w) => (Number.isFinite(most) ? Math.exp(w - most) : 0));
    const sum = raw.reduce((a, b) => a + b, 0);
    const shares = raw.map((w) => (sum ? w / sum : 0));
    const squares = shares.reduce((a, b) => a + b * b, 0);
    return { ...block, tokens, shares, ess: squares ? 1 / squares : 0,
      resampled: block.parents.some((parent, i) => parent !== i) };
  });
}

class ParticlesPicture {
  constructor(chain, blocks, choose) {
    Object.assign(this, { chain, blocks, choose });
    this.node = el("div", { class: "picture" });
    this.place = el("div", { class: "plot", tabindex: 0, role: "group",
      "aria-label": "In a block: arrow keys up and down choose one" });
    this.place.addEventListener("keydown", (event) => {
      const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      const count = blocks[this.block].tokens.length;
      choose(this.block, (this.particle + by + count) % count);
    });
    this.words = PARTICLE_WORDS[chain.sampler] ?? PARTICLE_WORDS.smc;
    this.ancestry = this.trace();
    this.node.append(this.place,
      legend(["particle", "ancestor", "dead", "stage"].map((kind) => [kind, this.words[kind]])),
      inWords("The picture in words", ["block", "tokens", "effective sample size", "resampled before it", "heaviest",
        "its weight", "distinct parents"],
        () => blocks.map((b, i) => {
          const heaviest = b.shares.indexOf(Math.max(...b.shares));
          return [i + 1, b.tokens[heaviest].length, b.ess.toFixed(1), b.resampled ? "yes" : "no", heaviest,
            percent(b.shares[heaviest]), new Set(b.parents).size];
        })));
    new ResizeObserver(() => this.draw()).observe(this.place);
  }

  // Which particles of each block the one returned comes from, and which have descendants at the end.
  trace() {
    const count = this.blocks.length, chosen = this.blocks[count - 1].chosen;
    const path = new Array(count).fill(-1), alive = this.blocks.map((b) => new Set());
    this.blocks[count - 1].parents.forEach((_, i) => alive[count - 1].add(i));
    for (let b = count - 1, at = chosen; b >= 0; b--) {
      path[b] = at;
      if (at >= 0) at = this.blocks[b].parents[at];
      if (b) for (const i of alive[b]) alive[b - 1].add(this.blocks[b].parents[i]);
    }
    return { path, alive };
  }

  draw() {
    const outer = this.place.clientWidth;
    if (!outer || outer === this.drawn) return;
    this.drawn = outer;
    const { blocks } = this, count = Math.max(...blocks.map((b) => b.tokens.length));
    const left = 34, right = 12, top = 20, row = Math.max(5, Math.min(22, 300 / count)), high = row * count;
    const column = Math.min(170, Math.max(16, (outer - left - right) / blocks.length));
    const width = Math.max(outer, left + right + column * blocks.length);
    const essTop = top + high + 24, essHigh = 40, height = essTop + essHigh + 22;
    const x = (b) => left + (b + 0.5) * column, y = (i) => top + (i + 0.5) * row;
    const picture = canvas(width, height, this.summary());
    picture.append(text(left, 11, `${this.words.several} ↓   blocks →`, { class: "axis" }));
    blocks.forEach((b, at) => {
      const edge = left + at * column;
      if (b.resampled) picture.append(line(edge, top, edge, top + high, { class: "stage" }));
      if (at) b.parents.forEach((parent, i) => {
        const kind = this.ancestry.path[at] === i ? "ancestor" : this.ancestry.alive[at].has(i) ? "alive" : "dead";
        picture.append(line(x(at - 1), y(parent), x(at), y(i), { class: `lineage ${kind}` }));
      });
    });
    const most = Math.min(row, column) * 0.48;
    blocks.forEach((b, at) => {
      b.shares.forEach((share, i) => {
        const kind = this.ancestry.path[at] === i ? "ancestor" : this.ancestry.alive[at].has(i) ? "alive" : "dead";
        const r = Math.max(1.2, most * Math.min(1.6, Math.sqrt(share * count / 2)));
        const dot = svg("circle", { cx: x(at), cy: y(i), r, class: `particle ${kind}` },
          svg("title", null, `block ${at + 1}, ${this.words.one} ${i}: ${this.words.share} ${percent(share)}`));
        dot.addEventListener("click", () => this.choose(at, i));
        picture.append(dot);
      });
      const y0 = scale(0, count, essTop + essHigh, essTop);
      picture.append(rect(x(at) - column * 0.3, y0(b.ess), column * 0.6, essTop + essHigh - y0(b.ess),
        { class: "extended" }));
      const numbered = column > 22 || (at + 1) % 5 === 0;
      if (numbered) picture.append(text(x(at), height - 6, String(at + 1), { class: "axis middle" }));
    });
    picture.append(text(left, essTop - 7, "effective sample size", { class: "axis" }),
      text(left - 5, essTop + 9, String(count), { class: "axis end" }));
    this.cursor = svg("circle", { class: "cursor", r: most + 3 });
    this.points = { x, y };
    picture.append(this.cursor);
    this.place.replaceChildren(picture);
    this.show(this.block ?? blocks.length - 1, this.particle ?? 0);
  }

  summary() {
    const { blocks } = this, resampled = blocks.filter((b) => b.resampled).length;
    if (this.words === PARTICLE_WORDS.tmc) {
      const most = Math.max(...blocks.map((b) => b.tokens.length));
      return `${plural(blocks.length, "block")}, each drawn from ${plural(most, "candidate")} at most.`;
    }
    const what = `${plural(blocks[0].tokens.length, "particle")} over ${plural(blocks.length, "block")}`;
    return `${what}, resampled ${plural(resampled, "time")}; ` +
      `of those at the first block ${whole(this.ancestry.alive[0].size)} have descendants at the end.`;
  }

  show(block, particle) {
    Object.assign(this, { block, particle });
    if (!this.cursor) return;
    this.cursor.setAttribute("cx", this.points.x(block));
    this.cursor.setAttribute("cy", this.points.y(particle));
  }
}
