// What the pictures share: scales, ticks, colours of answers.

const ANSWER_COLOURS = 8;
const answerClass = (answer) => (answer < 0 ? "no-answer" : `answer-${answer % ANSWER_COLOURS}`);

function niceTicks(low, high, most) {
  if (!(high > low)) return [low];
  const rough = (high - low) / Math.max(1, most), power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  const ticks = [];
  for (let x = Math.ceil(low / step - 1e-9) * step; x <= high + step * 1e-9; x += step) {
    ticks.push(Math.abs(x) < step / 1e6 ? 0 : x);
  }
  return ticks;
}

const scale = (low, high, from, to) => (x) => from + (high > low ? (x - low) / (high - low) : 0.5) * (to - from);
const tick = (x) => (Math.abs(x) >= 1000 ? whole(x) : String(Number(x.toPrecision(3)))).replace("-", "−");

// A picture of this size in pixels; summary says in words what it shows.
const canvas = (width, height, summary) =>
  svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": summary });
const text = (x, y, words, attributes = {}) => svg("text", { x, y, ...attributes }, words);
const rect = (x, y, width, height, attributes) =>
  svg("rect", { x, y, width: Math.max(0, width), height: Math.max(0, height), ...attributes });
const line = (x1, y1, x2, y2, attributes) => svg("line", { x1, y1, x2, y2, ...attributes });

// A picture in words, made when it is opened.
function inWords(title, head, rows) {
  const details = el("details", { class: "words" }, el("summary", null, title));
  details.addEventListener("toggle", () => {
    if (!details.open || details.querySelector("table")) return;
    details.append(el("div", { class: "wide" }, el("table", null,
      el("thead", null, el("tr", null, head.map((each) => el("th", { scope: "col" }, each)))),
      el("tbody", null, rows().map((row) => el("tr", null, row.map((cell) => el("td", null, String(cell)))))))));
  });
  return details;
}

function legend(entries) {
  const item = ([kind, words]) => el("li", null, el("i", { class: `key ${kind}` }), words);
  return el("ul", { class: "legend" }, entries.map(item));
}
