// Opens pages in a real browser as a reader would, and says what is wrong with them.
// node browse.mjs PACKAGES PAGES [SHOTS]: folders with node_modules, of the pages, and where pictures of them go.
// $CHROME is the browser; without it, the one of the package @sparticuz/chromium.
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [packages, pages, shots] = process.argv.slice(2);
const { resolve: found } = createRequire(resolve(packages, "package.json"));
const load = (name) => import(pathToFileURL(found(name)).href);
const { chromium } = (await load("playwright-core")).default;
const axe = readFileSync(found("axe-core/axe.min.js"), "utf8");

// The package's own arguments would switch off what is tested here, such as the security of the web.
const executablePath = process.env.CHROME || (await (await load("@sparticuz/chromium")).default.executablePath());

const SCREENS = {
  desk: { viewport: { width: 1200, height: 900 }, colorScheme: "light" },
  phone: { viewport: { width: 360, height: 740 }, colorScheme: "dark", isMobile: true, hasTouch: true },
};
const OPENS_WITHIN = 1000; // milliseconds, of the quickest of three
const PLANTED = "planted"; // begins the names of pages that have to be complained about

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"], headless: true });
console.log(`browser: ${browser.version()}`);

/** What a page does on its own, for as long as it is open. */
async function opened(file, options, problems) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const url = pathToFileURL(resolve(pages, file)).href;
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) problems.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => problems.push(`exception: ${error.message}`));
  page.on("dialog", (dialog) => (problems.push(`dialog: ${dialog.message()}`), dialog.dismiss()));
  page.on("request", (request) => {
    const asked = request.url();
    if (asked.split("#")[0] !== url && !asked.startsWith("data:")) problems.push(`request: ${asked}`);
  });
  await page.goto(url, { waitUntil: "load" });
  return page;
}

async function looked(page, problems, when) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (wide > 0) problems.push(`${when}: ${wide} pixels wider than the screen`);
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  for (const each of violations.filter((one) => ["serious", "critical"].includes(one.impact))) {
    problems.push(`${when}: axe: ${each.id}: ${each.nodes.length} of ${each.nodes[0].html.slice(0, 200)}`);
  }
}

/** Milliseconds until it has loaded and been drawn, of the quickest of three. */
async function time(file, options) {
  let least = Infinity;
  for (let tries = 0; tries < 3; tries += 1) {
    const page = await opened(file, options, []);
    const took = await page.evaluate(
      () =>
        new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now())))),
    );
    least = Math.min(least, took);
    await page.context().close();
  }
  return least;
}

async function filters(page, problems) {
  if (!(await page.locator("#filters").count())) return "no filters";
  const rows = page.locator("tr[data-name]");
  const all = await rows.count();
  const shown = () => page.locator("tr[data-name]:visible").count();
  const expect = async (what, wanted) => {
    const got = await shown();
    if (got !== wanted) problems.push(`filters: ${what}: expected ${wanted} of ${all} rows, got ${got}`);
  };
  await expect("none", all);
  const name = await rows.last().getAttribute("data-name");
  const named = (await rows.evaluateAll((found) => found.map((row) => row.dataset.name))).filter((one) =>
    one.includes(name),
  );
  await page.locator("#filter-name").fill(name.toUpperCase());
  await expect(`name ${name}`, named.length);
  await page.locator("#filter-name").fill("no experiment has this name");
  await expect("a name that none has", 0);
  await page.locator("#filter-name").fill("");
  for (const status of await page.locator("#filter-status option").evaluateAll((all) => all.map((one) => one.value))) {
    await page.locator("#filter-status").selectOption(status);
    await expect(`status ${status}`, status ? await page.locator(`tr[data-status="${status}"]`).count() : all);
  }
  await page.locator("#filter-status").selectOption("");
  await expect("none again", all);
  return `filters ${all} rows`;
}

/** From the verdict to a cause with one click, by mouse and by keyboard. */
async function leads(page, problems) {
  const link = page.locator('header a[href="#cause-1"]');
  if (!(await link.count())) {
    problems.push("no link from the verdict to a cause");
    return;
  }
  const details = page.locator("details.cause").first();
  for (const [how, act] of [["click", () => link.click()], ["key", () => link.press("Enter")]]) {
    await page.evaluate(() => scrollTo(0, 0));
    await details.evaluate((one) => (one.open = false));
    await act().catch((error) => problems.push(`${how}: ${error.message.split("\n")[0]}`));
    await page.waitForTimeout(100);
    const seen = await details.evaluate((one) => {
      const { top } = one.querySelector("h3").getBoundingClientRect();
      return one.open && top >= 0 && top < innerHeight;
    });
    if (!seen) problems.push(`${how}: the cause is not in sight`);
    for (const asked of ["Which side?", "Where?", "Why?", "What to run?"]) {
      if (!(await details.getByText(asked).isVisible())) problems.push(`${how}: ${asked} is not answered`);
    }
  }
  await page.evaluate(() => location.assign("#"));
}

/** Every cell leads to its row, and the row is in sight. */
async function cells(page, problems) {
  const link = page.locator(".matrix tbody td a").last();
  const target = (await link.getAttribute("href")).slice(1);
  await link.click().catch((error) => problems.push(`cell: ${error.message.split("\n")[0]}`));
  await page.waitForTimeout(100);
  if (!(await page.locator(`#${target}`).isVisible())) problems.push(`the cell's row ${target} is not shown`);
}

async function keyboard(page, problems) {
  await page.evaluate(() => (scrollTo(0, 0), document.activeElement.blur()));
  await page.keyboard.press("Tab");
  const first = await page.evaluate(() => document.activeElement.textContent);
  if (!first.startsWith("Skip")) problems.push(`the first stop of the keyboard is ${first}`);
}

async function withoutScript(file, problems) {
  const page = await opened(file, { ...SCREENS.desk, javaScriptEnabled: false }, problems);
  for (const hidden of ["#filters", ".copy"]) {
    if (await page.locator(hidden).first().isVisible()) problems.push(`without script: ${hidden} is shown`);
  }
  const cause = page.locator("details.cause .answers").first();
  if ((await page.locator("details.cause").count()) && !(await cause.isVisible())) {
    problems.push("without script: no cause is shown");
  }
  await page.context().close();
}

let failed = false;
for (const file of readdirSync(pages).filter((name) => name.endsWith(".html")).sort()) {
  const problems = [];
  const planted = file.startsWith(PLANTED);
  let said = "";
  for (const [screen, options] of Object.entries(SCREENS)) {
    const page = await opened(file, options, problems);
    page.setDefaultTimeout(5000);
    await looked(page, problems, screen);
    if (!planted) {
      await keyboard(page, problems);
      said = await filters(page, problems);
      if (await page.locator("details.cause").count()) await leads(page, problems);
      await cells(page, problems);
      await page.evaluate(() => document.querySelectorAll("details").forEach((one) => (one.open = true)));
      await looked(page, problems, `${screen}, all open`);
    }
    await page.context().close();
  }
  if (!planted) {
    await withoutScript(file, problems);
    const took = await time(file, SCREENS.desk);
    said += `, opens in ${took.toFixed(0)} ms`;
    if (took > OPENS_WITHIN) problems.push(`expected to open within ${OPENS_WITHIN} ms, took ${took.toFixed(0)}`);
  } else {
    const missing = ["request: ", "console: ", "dialog: ", "wider than", "axe: "].filter(
      (kind) => !problems.some((one) => one.includes(kind)),
    );
    problems.splice(0, Infinity, ...missing.map((kind) => `not seen: ${kind.trim()}`));
    said = "is complained about";
  }
  failed ||= problems.length > 0;
  console.log(`${problems.length ? "FAIL" : "ok"} ${file}: ${said}`);
  for (const problem of new Set(problems)) console.log(`  ${problem}`);
}

if (shots) {
  for (const [name, file, screen, place] of [
    ["page-passing", "run-passing.html", "desk", ""],
    ["page-failing", "run-failing.html", "desk", ""],
    ["page-failing-phone", "run-failing.html", "phone", ""],
    ["page-pair", "run-pair.html", "desk", ""],
  ]) {
    const page = await opened(file, { ...SCREENS[screen], viewport: { ...SCREENS[screen].viewport, height: 1400 } }, []);
    if (place) await page.evaluate((to) => location.assign(to), place);
    await page.waitForTimeout(200);
    await page.screenshot({ path: resolve(shots, `${name}.png`) });
    // README's: how far the loss is from its bound, of one experiment.
    if (name === "page-passing")
      await page.locator(".pictures").first().screenshot({ path: resolve(shots, "page-pictures.png") });
    await page.context().close();
  }
}
await browser.close();
process.exit(failed ? 1 : 0);
