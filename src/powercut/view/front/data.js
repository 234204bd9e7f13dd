// A payload of view/pack.py, read again, and small helpers that every part uses.

const $ = (id) => document.getElementById(id);
const facts = JSON.parse($("facts").textContent);
const SVG = "http://www.w3.org/2000/svg";

// Text only ever becomes text: no part writes markup.
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const whole = (n) => n.toLocaleString("en");
const numberOf = (x) => (x === "inf" ? Infinity : x === "-inf" ? -Infinity : x);

function nats(x, digits = 2) {
  x = numberOf(x);
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  const shown = Math.abs(x).toFixed(digits);
  return (x < 0 && Number(shown) !== 0 ? "−" : "") + shown;
}
const signed = (x) => (numberOf(x) >= 0 && Number.isFinite(numberOf(x)) ? "+" : "") + nats(x);
function percent(p) {
  const x = 100 * p;
  return (x >= 99.95 ? "100" : x >= 10 ? x.toFixed(0) : x >= 1 ? x.toFixed(1) : x >= 0.1 ? x.toFixed(2) : "<0.1") + "%";
}
const plural = (n, one, many = one + "s") => `${whole(n)} ${n === 1 ? one : many}`;

async function inflate(text) {
  const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The bytes of numbers that lie plane by plane.
function numbers(bytes, size, start, count) {
  if (size === 1) return bytes.subarray(start, start + count);
  const found = size === 2 ? new Uint16Array(count) : new Uint32Array(count);
  for (let plane = 0; plane < size; plane++) {
    const from = start + plane * count;
    for (let i = 0; i < count; i++) found[i] += bytes[from + i] * 2 ** (8 * plane);
  }
  return found;
}

const loadPayload = (index) => readPayload($(`chain-${index}`).textContent);

async function readPayload(text) {
  const bytes = await inflate(text);
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  const data = bytes.subarray(4 + length);
  const arrays = {};
  for (const [name, [size, start, count]] of Object.entries(head.arrays)) {
    arrays[name] = numbers(data, size, start, count);
  }
  return { ...head, pool: new Pool(head, arrays) };
}

// Every token that was drawn, by its number in the pool; -1 - v is token v of the vocabulary, of which no law is known:
// a prompt's.
class Pool {
  constructor(head, arrays) {
    this.vocabulary = head.vocabulary;
    this.tokenIds = head.tokenIds;
    this.specials = new Set(head.special);
    this.tellsLikely = head.tellsLikely;
    this.ids = arrays.ids;
    this.surprisal = arrays.logp;
    this.entropy = arrays.entropy;
    this.likelyIds = arrays.likelyIds;
    this.likelyP = arrays.likelyP;
    this.ends = new Uint32Array(arrays.counts.length + 1);
    arrays.counts.forEach((count, i) => (this.ends[i + 1] = this.ends[i] + count));
  }

  id(k) { return k < 0 ? -1 - k : this.ids[k]; }
  logp(k) { return -this.surprisal[k] / 1000; }
  entropyOf(k) { return k < 0 ? 0 : this.entropy[k] / 1000; }
  likely(k) {
    if (k < 0) return [];
    const found = [];
    for (let i = this.ends[k]; i < this.ends[k + 1]; i++) found.push([this.likelyIds[i], this.likelyP[i] / 10000]);
    return found;
  }
}
