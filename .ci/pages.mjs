// The pages in a real browser: axe-core must find nothing serious in them, in light and dark, from 360 pixels to 4K, nothing may
// be cut off at the side, and charts must tell their values to the keyboard. With --pictures DIR it makes the documents' pictures.
//
//   node .ci/pages.mjs FOREBAY LOADGEN [--pictures docs/pictures]      (needs playwright-core, axe-core and chromium)
import { createRequire } from "node:module";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const require = createRequire(join(process.env.NODE_PATH || process.cwd(), "x.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const [forebay, loadgen, , pictures] = process.argv.slice(2);

/* What the documents show. */
const PAGES = ["dashboard", "listing", "report", "simulation"];
const PICTURES = [...PAGES, ...PAGES.map(name => `${name}-dark`), "dashboard-360"];

const work = mkdtempSync(join(tmpdir(), "forebay-pages-"));
const run = (program, ...args) => execFileSync(program, args, { cwd: work, stdio: ["ignore", "ignore", "inherit"] });
let server, browser, failed = 0;

function start(...args) {
  return new Promise((resolve, reject) => {
    const child = spawn(forebay, ["serve", "--listen", "127.0.0.1:0", ...args], { cwd: work, stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    child.stderr.on("data", data => {
      said += data;
      const found = said.match(/ on (127\.0\.0\.1:\d+)/);
      if (found) resolve({ child, address: found[1] });
    });
    child.on("exit", () => reject(new Error(said)));
  });
}

async function look(name, url, { ready, charts }) {
  for (const [scheme, width, height] of [["light", 1280, 1000], ["dark", 1280, 1000], ["light", 360, 740], ["dark", 3840, 2160]]) {
    const context = await browser.newContext({ colorScheme: scheme, viewport: { width, height }, bypassCSP: true });
    const page = await context.newPage();
    const faults = [];
    page.on("pageerror", error => faults.push(`script: ${error.message}`));
    // A browser asks for an icon by itself; no page names one.
    const isIcon = message => message.location().url.endsWith("/favicon.ico");
    page.on("console", message => { if (message.type() === "error" && !isIcon(message)) faults.push(`console: ${message.text()}`); });
    await page.goto(url);
    if (ready) await page.waitForFunction(ready, null, { timeout: 60000 });
    const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (over > 0) faults.push(`${over} pixels are cut off at the side`);
    if (charts) {
      const chart = page.locator("svg[data-readout]").first();
      await chart.focus();
      await page.keyboard.press("ArrowLeft");
      const words = await page.locator(`#${await chart.getAttribute("data-readout")}`).textContent();
      if (!/: .*\d/.test(words)) faults.push(`a chart tells nothing to the keyboard: ${words}`);
    }
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    for (const { id, impact, help, nodes } of violations) {
      const where = nodes.slice(0, 3).map(node => node.target.join(" ")).join(" | ");
      if (["serious", "critical"].includes(impact)) faults.push(`axe ${impact} ${id}: ${help} (${where})`);
    }
    const picture = `${name}${scheme === "dark" ? "-dark" : ""}${width === 360 ? "-360" : ""}`;
    if (pictures && width !== 3840 && PICTURES.includes(picture)) {
      await page.setViewportSize({ width, height: name === "listing" ? 340 : height });
      // From the top, and without the frame around what has the keyboard.
      await page.evaluate(() => { document.activeElement?.blur(); scrollTo(0, 0); });
      await page.screenshot({ path: join(pictures, `${picture}.png`), animations: "disabled" });
    }
    console.log(`${faults.length ? "FAILED" : "ok"} ${name} ${scheme} ${width}`);
    faults.forEach(fault => console.log(`  ${fault}`));
    failed += faults.length;
    await context.close();
  }
}

try {
  if (pictures) mkdirSync(pictures, { recursive: true });
  run(loadgen, "corpus", "www", "--count", "3000", "--sizes", "lognormal:16KiB,1.5", "--list", "names");
  for (const name of ["guide.txt", "release-1.0.tar.zst", "notes.md"]) writeFileSync(join(work, name), "x".repeat(name.length * 997));
  const shown = join(work, "shown");
  mkdirSync(join(shown, "images"), { recursive: true });
  mkdirSync(join(shown, "packages"));
  for (const name of ["guide.txt", "release-1.0.tar.zst", "notes.md"]) writeFileSync(join(shown, name), "x".repeat(name.length * 997));
  server = await start("www", "--access-log", "access.log");
  const url = `http://${server.address}/`;
  const all = ["--paths", "names", "--popularity", "zipf:0.9", "--quiet"];
  run(loadgen, "run", url, ...all, "--duration", "5s", "--warmup", "1s", "--json", "closed.json", "--label", "as fast as possible");
  run(loadgen, "run", url, ...all, "--duration", "5s", "--rate", "500", "--arrivals", "poisson", "--json", "open.json", "--label", "500/s");
  run(loadgen, "report", "closed.json", "--output", "report.html");
  run(loadgen, "report", "closed.json", "open.json", "--output", "both.html");
  run(forebay, "simulate", "--trace", "access.log", "--eviction", "gdc,lru,s3-fifo", "--sizes", "4MiB..256MiB", "--explain", "5", "--report", "simulation.html");
  // Something goes on while the dashboard is looked at.
  const load = spawn(loadgen, ["run", url, ...all, "--duration", "600s", "--rate", "300"], { cwd: work, stdio: "ignore" });
  const quiet = await start("shown");
  try {
    browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox"] });
    const drawn = () => document.querySelector("#state")?.textContent === "live" && document.querySelector("#ratio").textContent !== "–"
      && document.querySelectorAll("#chart-ratio path").length > 0;
    await look("dashboard", `${url}.forebay/`, { ready: drawn, charts: true });
    await look("dashboard-empty", `http://${quiet.address}/.forebay/`, { ready: () => document.querySelector("#state").textContent === "live" });
    await look("listing", `http://${quiet.address}/`, {});
    for (const name of ["report", "both", "simulation"]) await look(name, `file://${work}/${name}.html`, { charts: true });
  } finally {
    load.kill();
    quiet.child.kill();
  }
} finally {
  if (browser) await browser.close();
  if (server) server.child.kill();
  rmSync(work, { recursive: true, force: true });
}
console.log(failed ? `${failed} faults` : "pages: all is well");
process.exitCode = failed ? 1 : 0;
