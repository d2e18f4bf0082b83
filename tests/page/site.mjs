// Opens the lesson's pages of the site in a real browser, in both languages, as a reader would, and says what is wrong.
// node site.mjs PACKAGES SITE PLANTED [SHOTS]: folders with node_modules and of the built site, a page with everything
// wrong that is looked for, and where pictures go.
// $CHROME is the browser; without it, the one of the package @sparticuz/chromium.
import { existsSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [packages, site, planted, shots] = process.argv.slice(2);
const { resolve: found } = createRequire(resolve(packages, "package.json"));
const load = (name) => import(pathToFileURL(found(name)).href);
const { chromium } = (await load("playwright-core")).default;
const executablePath = process.env.CHROME || (await (await load("@sparticuz/chromium")).default.executablePath());

const SCREENS = {
  phone: { viewport: { width: 360, height: 740 }, colorScheme: "dark", isMobile: true, hasTouch: true },
  desk: { viewport: { width: 1600, height: 1000 }, colorScheme: "light" },
};
const root = pathToFileURL(resolve(site)).href + "/";

/** Pages of the lesson below a folder of the site, as paths in the site. */
function pages(folder) {
  return readdirSync(join(site, folder, "lesson"), { recursive: true })
    .map(String)
    .filter((name) => name.endsWith(".html"))
    .map((name) => `${folder}lesson/${name.replaceAll("\\", "/")}`)
    .sort();
}

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"], headless: true });
console.log(`browser: ${browser.version()}`);

async function opened(context, path, problems, url = root + path) {
  const page = await context.newPage();
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) problems.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => problems.push(`exception: ${error.message}`));
  page.on("requestfailed", (request) => problems.push(`not found: ${request.url()}`));
  page.on("request", (request) => {
    const asked = request.url();
    if (!asked.startsWith(root) && !asked.startsWith("data:") && asked !== url) problems.push(`request: ${asked}`);
  });
  await page.goto(url, { waitUntil: "load" });
  return page;
}

/** What is drawn: too wide for the screen, or markup that was not understood. */
async function looked(page, problems) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (wide > 0) problems.push(`${wide} pixels wider than the screen`);
  const marks = await page.evaluate(() => {
    const text = document.createTreeWalker(document.querySelector("article") ?? document.body, NodeFilter.SHOW_TEXT);
    const odd = [];
    while (text.nextNode()) {
      const { data, parentElement } = text.currentNode;
      if (!parentElement.closest("pre, code, math, script, style") && /\*\*|:::|\]\(|`|\$/.test(data)) odd.push(data.trim());
    }
    return odd;
  });
  for (const data of marks) problems.push(`markup: ${data.slice(0, 80)}`);
}

/** The switch leads to the same page in the other language and back. */
async function switched(page, path, problems) {
  const chinese = path.startsWith("zh/");
  const lang = await page.getAttribute("html", "lang");
  if (!lang.startsWith(chinese ? "zh" : "en")) problems.push(`lang is ${lang}`);
  const links = page.locator("nav.languages a");
  if ((await links.count()) !== 1) return problems.push("expected one link to the other language");
  const there = await links.evaluate((link) => link.href);
  const other = chinese ? path.slice("zh/".length) : `zh/${path}`;
  if (there !== root + other) problems.push(`the switch leads to ${there}`);
  if (!existsSync(join(site, other))) problems.push(`no ${other}`);
  return undefined;
}

/** A framework that was chosen on one page is chosen on the next. */
async function remembered(context, folder, problems) {
  const chosen = async (path, label) => {
    const page = await opened(context, path, problems);
    await page.evaluate(() => document.querySelectorAll("details").forEach((one) => (one.open = true)));
    if (label) await page.locator(".sd-tab-set > label", { hasText: label }).first().click();
    const said = await page.evaluate(() => document.querySelector(".sd-tab-set > input:checked + label").innerText.trim());
    await page.close();
    return said;
  };
  for (const label of ["Flax", "PyTorch"]) {
    await chosen(`${folder}lesson/01_rnn_cell/index.html`, label);
    const next = await chosen(`${folder}lesson/05_gru/index.html`);
    if (next !== label) problems.push(`chosen ${label}, then shown ${next}`);
  }
}

/** What is searched for is found, without a server. */
async function searched(context, folder, words, wanted, problems) {
  const page = await opened(context, `${folder}search.html?q=${encodeURIComponent(words)}`, problems);
  const hits = page.locator("#search-results li a");
  await hits.first().waitFor({ timeout: 20000 }).catch(() => undefined);
  const places = await hits.evaluateAll((links) => links.map((link) => link.href));
  if (!places.some((place) => place.includes(wanted))) problems.push(`searched for ${words}: no ${wanted}, got ${places.length} pages`);
  await page.close();
}

let failed = 0;
const report = (what, problems) => {
  failed += problems.length > 0;
  for (const problem of new Set(problems)) console.log(`  ${what}: ${problem}`);
};
const all = [...pages(""), ...pages("zh/")];
for (const [screen, options] of Object.entries(SCREENS)) {
  const context = await browser.newContext(options);
  for (const path of all) {
    const problems = [];
    const page = await opened(context, path, problems);
    await looked(page, problems);
    await switched(page, path, problems);
    if (shots) await page.screenshot({ path: join(shots, `${screen}-${path.replaceAll("/", "-")}.png`), fullPage: true });
    await page.close();
    report(`${screen}: ${path}`, problems);
  }
  for (const folder of ["", "zh/"]) {
    const problems = [];
    await remembered(context, folder, problems);
    await searched(context, folder, folder ? "重置门" : "reset gate", "lesson/05_gru", problems);
    report(`${screen}: tabs and search below ${folder || "/"}`, problems);
  }
  await context.close();
}
const seen = [];
const context = await browser.newContext(SCREENS.phone);
await looked(await opened(context, "", seen, pathToFileURL(resolve(planted)).href), seen);
for (const kind of ["console", "exception", "request", "pixels", "markup"]) {
  if (!seen.some((one) => one.includes(kind))) report("the page with everything wrong", [`nothing said of ${kind}`]);
}
await browser.close();
console.log(`${all.length} pages on ${Object.keys(SCREENS).length} screens: ${failed} with something wrong`);
process.exit(failed ? 1 : 0);
