// The page of attention_view: draws the weights that stand in #data, [layers, heads, Q, K], 16 bits each.
const data = JSON.parse(document.getElementById("data").textContent);
const bytes = Uint8Array.from(atob(data.weights), c => c.charCodeAt(0));
const view = new DataView(bytes.buffer), Q = data.queries.length, K = data.keys.length, H = data.heads;
const weight = (l, h, q, k) => view.getUint16(2 * (((l * H + h) * Q + q) * K + k), true) / 65535;
const state = {layer: 0, head: 0, hovered: null, kept: null};
const $ = name => document.querySelector(name), main = $("main"), map = $(".map"), readout = $("output");

function read(q, k, head = state.head, layer = state.layer) {  // head H: the mean of all
  if (head < H) return weight(layer, head, q, k);
  let sum = 0;
  for (let h = 0; h < H; h++) sum += weight(layer, h, q, k);
  return sum / H;
}
function paint(canvas, size, head, marked) {
  const ratio = window.devicePixelRatio || 1, context = canvas.getContext("2d");
  const ink = getComputedStyle(main).getPropertyValue("--ink").trim().split(/\s+/).join(",");
  canvas.width = Math.round(K * size * ratio); canvas.height = Math.round(Q * size * ratio);
  canvas.style.width = K * size + "px"; canvas.style.height = Q * size + "px";
  context.scale(ratio, ratio);
  for (let q = 0; q < Q; q++) for (let k = 0; k < K; k++) {
    context.fillStyle = `rgba(${ink},${Math.sqrt(read(q, k, head)).toFixed(3)})`;
    context.fillRect(k * size, q * size, size, size);
  }
  if (marked !== null) {
    context.strokeStyle = `rgb(${ink})`; context.lineWidth = 1.5;
    context.strokeRect(0.75, marked * size + 0.75, K * size - 1.5, Math.max(size - 1.5, 1));
  }
}
function element(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  if (text !== undefined) made.textContent = text;
  return made;
}
const ruler = document.createElement("canvas").getContext("2d");
ruler.font = "12px " + getComputedStyle(map).fontFamily;
const widest = tokens => Math.ceil(Math.max(...tokens.map(token => ruler.measureText(token).width))) + 4;
const STEP = 21, LEFT = widest(data.queries), RIGHT = LEFT + 160, ROOM = RIGHT + widest(data.keys) + 64;
function lines() {
  const svg = $(".lines"), chosen = state.hovered ?? state.kept, height = Math.max(Q, K) * STEP + 6;
  svg.replaceChildren();
  svg.setAttribute("width", ROOM); svg.setAttribute("height", height);
  svg.setAttribute("viewBox", `0 0 ${ROOM} ${height}`);
  for (let q = 0; q < Q; q++) for (let k = 0; k < K; k++) {
    if (chosen !== null && chosen !== q) continue;
    const w = read(q, k);
    if (w < (chosen === null ? 0.04 : 0.005)) continue;  // fainter ones would not be seen
    const ends = {x1: LEFT + 6, y1: q * STEP + 11, x2: RIGHT - 6, y2: k * STEP + 11};
    svg.append(element("line", {...ends, "stroke-opacity": w.toFixed(3)}));
  }
  data.queries.forEach((token, q) => {
    const on = chosen === q, kind = "query" + (on ? " on" : chosen === null ? "" : " dim");
    const group = element("g", {class: kind, "data-query": q});
    group.append(element("rect", {class: "hit", x: 0, y: q * STEP, width: LEFT + 6, height: STEP}));
    group.append(element("text", {x: LEFT, y: q * STEP + 15, "text-anchor": "end", direction: "ltr"}, token));
    group.addEventListener("pointerenter", () => point(q));
    group.addEventListener("pointerleave", () => point(null));
    group.addEventListener("click", () => { state.kept = state.kept === q ? null : q; draw(); });
    svg.append(group);
  });
  data.keys.forEach((token, k) => {
    const w = chosen === null ? null : read(chosen, k), shown = w !== null && w >= 0.005, y = k * STEP + 15;
    const group = element("g", {class: "key" + (w !== null && !shown ? " dim" : "")});
    group.append(element("text", {x: RIGHT, y, direction: "ltr"}, token));
    if (shown) group.append(element("text", {x: ROOM - 4, y, "text-anchor": "end", class: "weight"}, w.toFixed(4)));
    svg.append(group);
  });
}
const cell = () => Math.max(2, Math.min(17, Math.floor(340 / Math.max(Q, K))));
function draw() {
  for (const kind of ["layer", "head"]) for (const button of document.querySelectorAll(`.${kind}s button`)) {
    button.setAttribute("aria-pressed", +button.dataset[kind] === state[kind]);
    if (kind === "head") paint(button.firstChild, 38 / Math.max(Q, K), +button.dataset.head, null);
  }
  update();
}
function update() { lines(); paint(map, cell(), state.head, state.hovered ?? state.kept); }
function point(q) { if (state.hovered !== q) { state.hovered = q; update(); } }
function choose(kind, count, label, make) {
  const group = $(`.${kind}s`);
  for (let i = 0; i < count; i++) {
    const button = document.createElement("button");
    button.type = "button"; button.dataset[kind] = i; button.setAttribute("aria-label", `${kind} ${label(i)}`);
    make(button, i);
    button.addEventListener("click", () => { state[kind] = i; draw(); });
    button.addEventListener("keydown", event => {
      const next = group.querySelectorAll("button")[i + ({ArrowRight: 1, ArrowLeft: -1}[event.key] || NaN)];
      if (next) { next.click(); next.focus(); }
    });
    group.append(button);
  }
}
choose("layer", data.layers, i => i + 1, (button, i) => { button.textContent = i + 1; });
const headName = i => i < H ? i + 1 : "mean";
const thumbnail = (button, i) => button.append(document.createElement("canvas"), headName(i));
choose("head", H > 1 ? H + 1 : H, headName, thumbnail);
map.addEventListener("pointermove", event => {
  const box = map.getBoundingClientRect(), size = cell();
  const q = Math.min(Q - 1, Math.max(0, Math.floor((event.clientY - box.top - 1) / size)));
  const k = Math.min(K - 1, Math.max(0, Math.floor((event.clientX - box.left - 1) / size)));
  readout.textContent = `${data.queries[q]} → ${data.keys[k]}: ${read(q, k).toFixed(4)}`;
  point(q);
});
map.addEventListener("pointerleave", () => { readout.textContent = ""; point(null); });
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
draw();
