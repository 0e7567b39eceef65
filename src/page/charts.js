"use strict";
/* What the charts of every page share: how values read, and what is under the pointer or the arrow keys. */
const show = {
  bytes(n) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let u = 0;
    while (n >= 1024 && u < units.length - 1) { n /= 1024; u++; }
    return `${n >= 100 || u === 0 ? Math.round(n) : n.toFixed(1)} ${units[u]}`;
  },
  count(n) {
    return n >= 1e6 ? `${(n / 1e6).toFixed(2)} M` : n >= 1e4 ? `${(n / 1e3).toFixed(1)} k` : String(Math.round(n * 10) / 10);
  },
  seconds(s) {
    return s < 1e-3 ? `${(s * 1e6).toFixed(s < 1e-5 ? 1 : 0)} µs` : s < 1 ? `${(s * 1e3).toFixed(1)} ms` : `${s.toFixed(1)} s`;
  },
  ns(n) { return show.seconds(n / 1e9); },
  share(n) { return `${Math.round(n * 1000) / 10} %`; },
  percent(n) { return `${Math.round(n * 100) / 100} %`; },
  /* Nines: 2 is 99 %. */
  nines(n) { return `${(100 - 100 / 10 ** n).toFixed(Math.max(0, Math.ceil(n) - 1))} %`; },
  ago(s) { return s < 1 ? "now" : s < 90 ? `${Math.round(s)} s ago` : `${Math.round(s / 6) / 10} min ago`; },
  time(s) { return `at ${Math.round(s * 10) / 10} s`; },
};

/* A chart says of itself where its lines lie: data-area="left top right bottom", data-x and data-y="from to unit", with
   "log" after it where equal ratios are equally long. */
function axis(text, start, end) {
  const [from, to, unit, log] = text.split(" "), low = Number(from), high = Number(to);
  const at = pixel => {
    const part = (pixel - start) / (end - start);
    return log ? low * (high / low) ** part : low + (high - low) * part;
  };
  return pixel => (show[unit] || String)(at(pixel));
}

/* Shows what the lines are at one place: a hair, and words below the chart. */
function explain(svg, pixel) {
  const [left, top, right, bottom] = svg.dataset.area.split(" ").map(Number);
  const x = Math.min(right, Math.max(left, pixel)), across = axis(svg.dataset.x, left, right), up = axis(svg.dataset.y, bottom, top);
  const found = [];
  let near = x;
  for (const line of svg.querySelectorAll("[data-name]")) {
    let best = null;
    for (const pair of (line.getAttribute("points") || line.dataset.points || "").trim().split(" ")) {
      const [px, py] = pair.split(",").map(Number);
      if (pair && (best === null || Math.abs(px - x) < Math.abs(best[0] - x))) best = [px, py];
    }
    if (best && Math.abs(best[0] - x) < 16) { found.push(`${line.dataset.name} ${up(best[1])}`); near = best[0]; }
  }
  svg.dataset.at = near;
  const hair = svg.querySelector(".hair") || svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "line"));
  hair.setAttribute("class", "hair");
  for (const [name, value] of Object.entries({ x1: near, x2: near, y1: top, y2: bottom })) hair.setAttribute(name, value);
  const words = document.getElementById(svg.dataset.readout);
  if (words) words.textContent = `${across(near)}: ${found.join(" · ") || "nothing"}`;
}

for (const svg of document.querySelectorAll("svg[data-readout]")) {
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect();
    explain(svg, (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width);
  });
  svg.addEventListener("keydown", event => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const [left, , right] = svg.dataset.area.split(" ").map(Number);
    explain(svg, Number(svg.dataset.at || right) + step * (right - left) / 100);
  });
}
