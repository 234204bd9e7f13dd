// The chain as a picture: events across, tokens down; below it log p and the answer as they went.

// Before and after each event, what it proposed: numbers of the pool.
function unroll(events) {
  let current = new Int32Array(0);
  return events.map((event) => {
    const shared = current.subarray(event.cut, event.cut + event.shared);
    const proposal = new Int32Array(event.shared + event.n);
    proposal.set(shared);
    for (let i = 0; i < event.n; i++) proposal[event.shared + i] = event.start + i;
    const before = current;
    if (event.step === undefined || event.accepted) {
      current = new Int32Array(event.cut + proposal.length);
      current.set(before.subarray(0, event.cut));
      current.set(proposal, event.cut);
    }
    return { ...event, before, proposal, after: current };
  });
}

function verdict(event) {
  if (event.step === undefined) return "extended";
  if (event.accepted) return event.changed ? "accepted" : "accepted, the same text";
  return event.early ? "rejected, cut short" : "rejected";
}
const nameOf = (event) => (event.step === undefined ? `stage ${event.stage + 1}` : `step ${event.step}`);

class ChainPicture {
  constructor(chain, events, choose) {
    Object.assign(this, { chain, events, choose, at: events.length });
    this.node = el("div", { class: "picture" });
    this.place = el("div", { class: "plot" });
    this.slider = el("input", { type: "range", min: 0, max: events.length, "aria-label": "Where in the chain" });
    this.slider.addEventListener("input", () => choose(Number(this.slider.value)));
    const answers = chain.answers.length;
    this.node.append(this.place, this.slider,
      legend([["accepted", "accepted"], ["rejected", "rejected"], ["early", "cut short by early rejection"],
        ["repeated", "repeats the text: skipped"], ["cut", "cut"], ["extended", "extension"],
        ...(answers ? [["answers", "one colour per answer"]] : [])]),
      inWords("The picture in words", ["", "stage", "cut at", "tokens", "of them repeated", "verdict", "log A",
        "needed", "log p after", "answer after"], () => events.map((event) => this.row(event))));
    new ResizeObserver(() => this.draw()).observe(this.place);
  }

  row(event) {
    const { stage, cut, proposal, shared, early, logAccept, logU, logp, answer } = event;
    const step = event.step === undefined ? ["–", "–"] : [(early ? "at most " : "") + nats(logAccept), nats(logU)];
    return [nameOf(event), stage + 1, event.step === undefined ? "–" : cut, proposal.length, shared, verdict(event),
      ...step, nats(logp), this.chain.answers[answer] ?? "none"];
  }

  draw() {
    const { events } = this, outer = this.place.clientWidth;
    if (!outer || outer === this.drawn) return;
    this.drawn = outer;
    const left = 46, right = 10, narrow = outer < 560;
    this.step = Math.min(80, Math.max(2, (outer - left - right) / Math.max(1, events.length)));
    const inner = this.step * events.length, width = Math.max(outer, left + inner + right);
    this.x = (i) => left + i * this.step;
    const longest = Math.max(1, ...events.map((e) => Math.max(e.after.length, e.cut + e.proposal.length)));
    const top = 18, high = narrow ? 170 : 230, logpTop = top + high + 26, logpHigh = narrow ? 44 : 56;
    const answerTop = logpTop + logpHigh + 12, answerHigh = this.chain.answers.length ? 18 : 0;
    const height = answerTop + answerHigh + 22;
    const y = scale(0, longest, top, top + high);
    const picture = canvas(width, height, this.summary());
    this.frame(picture, { left, inner, top, high, longest, y, height });
    events.forEach((event, i) => picture.append(this.column(event, i, y)));
    picture.append(this.logp(left, logpTop, logpHigh));
    if (answerHigh) picture.append(this.answers(answerTop, answerHigh));
    this.cursor = rect(0, top - 4, this.step, height - top - 12, { class: "cursor", rx: 2 });
    picture.append(this.cursor);
    const indexOf = (event) => {
      const x = event.clientX - picture.getBoundingClientRect().left - left;
      return Math.floor(x / this.step);
    };
    picture.addEventListener("click", (event) => {
      const i = indexOf(event);
      if (i >= 0) this.choose(Math.min(i, events.length - 1));
    });
    picture.addEventListener("mousemove", (event) => {
      const found = events[indexOf(event)];
      picture.firstChild.textContent = found ? `${nameOf(found)}: ${verdict(found)}` : "";
    });
    picture.prepend(svg("title", null));
    this.place.replaceChildren(picture);
    this.slider.style.marginLeft = `${left - 8}px`;
    this.slider.style.width = `${Math.min(inner, outer - left) + 16}px`;
    this.show(this.at);
  }

  frame(picture, { left, inner, top, high, longest, y, height }) {
    picture.append(text(left, 11, "tokens ↓   steps →", { class: "axis" }));
    for (const t of niceTicks(0, longest, high / 45)) {
      picture.append(line(left, y(t), left + inner, y(t), { class: "grid" }),
        text(left - 6, y(t) + 4, tick(t), { class: "axis end" }));
    }
    this.events.forEach((event, i) => {
      if (event.step !== undefined || !i) return;
      picture.append(line(this.x(i), top, this.x(i), top + high, { class: "stage" }));
    });
    const every = Math.ceil(34 / this.step);
    const nice = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((n) => n >= every) ?? every;
    this.events.forEach((event, i) => {
      if (event.step === undefined || (event.step !== 1 && event.step % nice)) return;
      picture.append(text(this.x(i) + this.step / 2, height - 6, String(event.step), { class: "axis middle" }));
    });
  }

  // One event: the text as it stood, and over it the proposal from the cut on.
  column(event, i, y) {
    const gap = Math.min(10, this.step * 0.18), x = this.x(i) + gap / 2, width = this.step - gap;
    const column = svg("g", { class: "column" });
    column.append(rect(x, y(0), width, y(event.before.length) - y(0), { class: "standing" }));
    const from = event.cut, met = event.cut + event.shared, end = met + event.n;
    const kind = event.step === undefined ? "extended" : event.accepted ? "accepted" : "rejected";
    const slim = kind === "rejected" ? width * 0.62 : width, inset = x + (width - slim) / 2; // known without colours
    if (event.shared) {
      column.append(rect(inset + 0.5, y(from), slim - 1, y(met) - y(from), { class: `repeated ${kind}` }));
    }
    column.append(rect(inset, y(met), slim, Math.max(event.n ? 1.5 : 0, y(end) - y(met)), { class: kind }));
    if (event.early) column.append(line(x - gap / 2, y(end), x + width + gap / 2, y(end), { class: "early" }));
    if (event.step !== undefined) {
      column.append(line(x - gap / 2, y(from), x + width + gap / 2, y(from), { class: "cut" }));
    }
    return column;
  }

  logp(left, top, high) {
    const group = svg("g", null), values = this.events.map((e) => numberOf(e.logp)).filter(Number.isFinite);
    const low = Math.min(...values), most = Math.max(...values), y = scale(low, most, top + high, top);
    group.append(text(left, top - 7, "log p of the text, nats", { class: "axis" }));
    for (const t of new Set([low, most])) group.append(text(left - 6, y(t) + 4, tick(t), { class: "axis end" }));
    let path = "";
    this.events.forEach((event, i) => {
      if (!Number.isFinite(numberOf(event.logp))) return;
      path += `${path ? "L" : "M"}${this.x(i)} ${y(event.logp).toFixed(1)}H${(this.x(i) + this.step).toFixed(1)}`;
    });
    group.append(svg("path", { d: path, class: "curve" }));
    return group;
  }

  answers(top, high) {
    const group = svg("g", null, text(40, top + 13, "answer", { class: "axis end" })), { events } = this;
    for (let i = 0; i < events.length; ) {
      let end = i + 1;
      while (end < events.length && events[end].answer === events[i].answer) end++;
      const width = (end - i) * this.step - 1, words = this.chain.answers[events[i].answer] ?? "none";
      group.append(rect(this.x(i), top, width, high, { class: answerClass(events[i].answer), rx: 2 }));
      const room = Math.floor((width - 6) / 6.6);
      if (room >= Math.min(3, words.length)) {
        const shown = words.length > room ? words.slice(0, room - 1) + "…" : words;
        group.append(text(this.x(i) + 4, top + 13, label(shown), { class: "answer" }));
      }
      i = end;
    }
    return group;
  }

  summary() {
    const steps = this.events.filter((e) => e.step !== undefined);
    const count = (test) => steps.filter(test).length;
    const last = this.events[this.events.length - 1];
    const changes = this.events.filter((e, i) => i && e.answer !== this.events[i - 1].answer).length;
    const fates = `${count((e) => e.accepted)} accepted, ${count((e) => e.changed)} of them changed the text, ` +
      `${count((e) => !e.accepted)} rejected, ${count((e) => e.early)} of them cut short`;
    return `${plural(steps.length, "step")}: ${fates}. log p went from ${nats(this.events[0].logp)} ` +
      `to ${nats(last.logp)} nats; the answer changed ${plural(changes, "time")}.`;
  }

  show(at) {
    this.at = at;
    this.slider.value = at;
    const event = this.events[at];
    this.slider.setAttribute("aria-valuetext", event ? `${nameOf(event)}, ${verdict(event)}` : "the end");
    if (!this.cursor) return;
    this.cursor.setAttribute("x", this.x(Math.min(at, this.events.length - 1)));
    this.cursor.classList.toggle("none", !event);
    const x = this.x(at);
    const { scrollLeft, clientWidth } = this.place;
    if (x < scrollLeft + 40 || x > scrollLeft + clientWidth - 40) this.place.scrollLeft = x - clientWidth / 2;
  }
}
