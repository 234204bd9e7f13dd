// Tokens as text: what is invisible is made visible, and long texts are built as they come into view.

const HALVES = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;
const MARKS = /[\u00ad\u061c\u200b\u200e\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb]/;
const HIDDEN = new RegExp(`[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u00a0]|${MARKS.source}|${HALVES.source}`);
const PIECES = new RegExp(`( +)|(\\n)|(\\t)|(${HIDDEN.source})`, "g");
const UNSURE = 1; // nats: what counts as uncertain, unless a text has nothing so uncertain
const JUMP = 0.5; // nats: from here on a jump is marked

// The text of each token of a vocabulary's ids. A character that several tokens make up is at the first of them.
function spell(pool, ids) {
  const texts = new Array(ids.length);
  for (let i = 0; i < ids.length; i++) {
    const piece = pool.vocabulary[ids[i]];
    if (piece === null) texts[i] = { text: `‹${pool.tokenIds[ids[i]]}›`, kind: "nameless" };
    else if (pool.specials.has(ids[i])) texts[i] = { text: piece, kind: "special" };
    else if (typeof piece === "string") texts[i] = { text: piece, kind: "" };
    else i = spellBytes(pool, ids, i, texts);
  }
  return texts;
}

const STRICT = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

// Tokens from i on that are bytes; returns the last of them.
function spellBytes(pool, ids, i, texts) {
  const bytes = [], owner = [];
  let end = i;
  for (; end < ids.length && Array.isArray(pool.vocabulary[ids[end]]); end++) {
    texts[end] = { text: "", kind: "part" };
    for (const byte of pool.vocabulary[ids[end]]) { bytes.push(byte); owner.push(end); }
  }
  for (let at = 0; at < bytes.length; ) {
    const lead = bytes[at];
    const size = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 0;
    let text = null;
    if (size && at + size <= bytes.length) {
      try {
        text = STRICT.decode(new Uint8Array(bytes.slice(at, at + size)));
      } catch { text = null; }
    }
    texts[owner[at]].text += text ?? `\\x${lead.toString(16).padStart(2, "0")}`;
    if (text === null) texts[owner[at]].kind = "nameless";
    at += text === null ? 1 : size;
  }
  for (let j = i; j < end; j++) if (texts[j].kind === "part" && texts[j].text) texts[j].kind = "";
  return end - 1;
}

// One token for a label: spaces as dots, ends of lines as arrows, nothing hidden.
function label(text) {
  const marked = text.replace(/ /g, "·").replace(/\n/g, "↵").replace(/\t/g, "⇥");
  return marked.replace(new RegExp(HIDDEN.source, "g"), escaped);
}
const escaped = (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`;

function appendText(span, text) {
  let last = 0;
  for (const found of text.matchAll(PIECES)) {
    if (found.index > last) span.append(text.slice(last, found.index));
    const [all, spaces, line, tab] = found;
    if (spaces) span.append(el("i", { class: "space" }, all));
    else if (line) span.append(el("i", { class: "line" }, "\n"));
    else if (tab) span.append(el("i", { class: "tab" }, "\t"));
    else span.append(el("i", { class: "hidden" }, escaped(all)));
    last = found.index + all.length;
  }
  if (last < text.length) span.append(text.slice(last));
}

const tint = (entropy) => Math.min(8, Math.round(8 * Math.sqrt(entropy / 4)));

// A text of tokens in a box of its own that scrolls. tokens: numbers of the pool; classOf(i): further classes of one.
class TokenText {
  constructor(pool, tokens, { name, classOf, before, onpick, onhover, first = 0, shownFrom = 0 }) {
    Object.assign(this, { pool, tokens, classOf, before, first });
    this.texts = spell(pool, Array.from(tokens, (k) => pool.id(k)));
    const kind = this.texts.some(({ text }) => text.includes("```")) ? "text code" : "text"; // its columns count
    this.box = el("div", { class: kind, tabindex: 0, role: "group", "aria-label": name });
    this.spans = new Map();
    this.blocks = this.cutUp(shownFrom);
    if (shownFrom > 0) this.box.append(this.unfold(shownFrom));
    this.box.append(...this.blocks.map((block) => block.node));
    const at = (event) => event.target.closest?.("[data-t]");
    this.box.addEventListener("click", (event) => at(event) && onpick?.(this, Number(at(event).dataset.t)));
    this.box.addEventListener("mouseover", (event) => at(event) && onhover?.(this, Number(at(event).dataset.t)));
    this.observer = new IntersectionObserver((seen) => this.see(seen), { root: this.box, rootMargin: "800px" });
    this.blocks.forEach((block) => this.observer.observe(block.node));
    if (this.blocks.length) this.build(this.blocks[0]);
  }

  // Blocks end with a line, where one is not too far.
  cutUp(from) {
    const blocks = [];
    for (let start = from; start < this.tokens.length; ) {
      let end = start, characters = 0;
      do { characters += this.texts[end].text.length; end++; } while (
        end < this.tokens.length && end - start < 1500 &&
        (end - start < 40 || !this.texts[end - 1].text.endsWith("\n")));
      const node = el("div", { class: "block", style: null });
      node.style.minHeight = `${Math.ceil(characters / 70) * 1.75}em`;
      blocks.push({ node, start, end, built: false });
      start = end;
    }
    return blocks;
  }

  unfold(shownFrom) {
    const button = el("button", { class: "unfold", type: "button" }, `… ${plural(shownFrom, "token")} before`);
    button.addEventListener("click", () => {
      const all = this.cutUp(0).filter((block) => block.start < shownFrom);
      const last = all[all.length - 1];
      last.end = Math.min(last.end, shownFrom);
      button.replaceWith(...all.map((block) => block.node));
      this.blocks.unshift(...all);
      all.forEach((block) => this.observer.observe(block.node));
      this.box.focus();
    });
    return button;
  }

  see(seen) {
    for (const { isIntersecting, target } of seen) {
      if (isIntersecting) this.build(this.blocks.find((block) => block.node === target));
    }
  }

  build(block) {
    if (block.built) return;
    block.built = true;
    this.observer?.unobserve(block.node);
    for (let i = block.start; i < block.end; i++) {
      const mark = this.before?.(i);
      if (mark) block.node.append(mark);
      block.node.append(this.spans.get(i) ?? this.span(i));
    }
    block.node.style.minHeight = "";
  }

  span(i) {
    const k = this.tokens[i], { text, kind } = this.texts[i];
    const jump = this.jump(i);
    const heat = k >= 0 ? `h${tint(this.pool.entropyOf(k))}` : "", leaps = jump >= JUMP ? "jump" : "";
    const classes = ["t", heat, leaps, kind, this.classOf?.(i)];
    const span = el("span", { class: classes.filter(Boolean).join(" "), "data-t": i });
    appendText(span, text);
    this.spans.set(i, span);
    return span;
  }

  jump(i) {
    if (this.tokens[i] < 0) return 0;
    const before = i > 0 && this.tokens[i - 1] >= 0 ? this.pool.entropyOf(this.tokens[i - 1]) : 0;
    return this.pool.entropyOf(this.tokens[i]) - before;
  }

  // The span of a token, built and in view.
  reveal(i) {
    const block = this.blocks.find((one) => one.start <= i && i < one.end);
    if (!block) return null;
    this.build(block);
    const span = this.spans.get(i);
    span.scrollIntoView({ block: "nearest" });
    return span;
  }

  // Where an uncertain token is: nats, lowered where a text has none so uncertain.
  get unsure() {
    let most = 0;
    for (const k of this.tokens) most = Math.max(most, this.pool.entropyOf(k));
    return Math.min(UNSURE, most / 2);
  }

  close() { this.observer.disconnect(); }
}
