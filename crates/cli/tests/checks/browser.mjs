// What a person does with the dashboard, done by Chromium through Playwright. Told where in the environment; says a line
// for each thing that holds, and ends with the first that does not.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';

const { chromium } = createRequire(`${process.env.NODE_FOLDER}/`)('playwright-core');
const told = JSON.parse(process.env.TOLD);
const home = new URL(told.url);
const PATIENCE = 30_000;

const browser = await chromium.launch({ executablePath: told.chromium, args: ['--no-sandbox'] });
const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
context.setDefaultTimeout(PATIENCE);
const complaints = [];
const page = await context.newPage();
page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) complaints.push(`console: ${message.text()}`); });
page.on('pageerror', (error) => complaints.push(`script: ${error.message}`));
page.on('request', (request) => {
  const { protocol, host } = new URL(request.url());
  if (protocol !== 'data:' && host !== home.host) complaints.push(`left loopback: ${request.url()}`);
});
page.on('response', (response) => { if (response.status() >= 400) complaints.push(`${response.status()}: ${response.url()}`); });

async function shows(words, check) {
  await check();
  assert.deepEqual(complaints, [], words);
  console.log(`holds: ${words}`);
}
const open = (path) => page.goto(new URL(path, home).href);
const text = (selector) => page.locator(selector).first().innerText();
/** Waits until something holds in the page; nothing is asked of how long that takes. */
const until = (what, argument) => page.waitForFunction(what, argument, { timeout: PATIENCE });

/** Starts a training in another process, as a person would in a terminal; gives what tells how it ended. */
function train(set) {
  const [program, ...rest] = told.train;
  const child = spawn(program, [...rest, ...set], { stdio: 'ignore' });
  return new Promise((resolve) => child.on('exit', resolve));
}

await shows('the list of runs opens, with the digits of the terminal', async () => {
  await open('/');
  assert.equal(await page.locator('table.runs tbody tr').count(), 2);
  assert.ok((await text('table.runs')).includes(told.rate), told.rate);
});

await shows('a condition filters, and a heading sorts', async () => {
  await page.fill('#where', 'arm=lstm');
  await page.press('#where', 'Enter');
  await page.waitForURL(/where=arm/);
  assert.equal(await page.locator('table.runs tbody tr').count(), 1);
  await open('/');
  await page.click('th a:text-is("val")');
  await page.waitForURL(/sort=result\.eval\.val\.error_rate/);
  assert.equal(await page.getAttribute('th:has(a:text-is("val"))', 'aria-sort'), 'ascending');
});

await shows('runs that are ticked stand side by side', async () => {
  await open('/');
  for (const box of await page.locator('table.runs input[type=checkbox]').all()) await box.check();
  assert.equal(await text('#n-chosen'), '2 chosen');
  await page.click('text=Compare the chosen');
  await page.waitForURL(/compare/);
  assert.equal(await text('h1'), '2 runs compared');
  assert.ok(await page.locator('figure svg').count() >= 3);
  assert.ok((await text('main')).includes(told.rate));
});

await shows('a figure tells the numbers of a mark, and hides the arm that is clicked on', async () => {
  const figure = page.locator('figure:has(.legend)').first();
  const [mark, entry] = [figure.locator('.tt').first(), figure.locator('.legend').first()];
  await mark.hover({ force: true });
  await page.waitForSelector('.figure-tip:not([hidden])');
  assert.match(await text('.figure-tip'), /\d/);
  await entry.click();
  assert.equal(await entry.getAttribute('aria-pressed'), 'false');
  const name = await entry.getAttribute('data-arm');
  assert.ok(await figure.locator(`.arm.off[data-arm="${name}"]`).count() > 0);
  assert.equal(await figure.locator(`.arm:not(.off)[data-arm="${name}"]`).count(), 0);
  await page.evaluate(() => document.activeElement.blur());
  // What is fetched again comes with all arms; those that were hidden stay hidden.
  await page.evaluate(() => { const live = document.querySelector('[data-source]'); live.dataset.revision = ''; exchange(live, live.innerHTML.replaceAll(' off"', '"').replaceAll(' live"', '"')); });
  assert.ok(await page.locator('figure .arm.off').count() > 0);
});

await shows('list and curves move while a run trains elsewhere, without a reload', async () => {
  await open('/');
  await page.evaluate(() => { window.mark = 'the same page'; });
  const ended = train([]);
  await until(() => document.querySelectorAll('table.runs tbody tr').length === 3);
  await until(() => document.querySelector('.badge.running') && document.querySelector('.steps'));
  assert.equal(await page.evaluate(() => window.mark), 'the same page');
  await page.locator('tr:has(.badge.running) a').first().click();
  await page.waitForSelector('#live .badge');
  await page.evaluate(() => { window.mark = 'still'; window.seen = new Set(); });
  await until(() => {
    const step = document.querySelector('.steps');
    const curve = document.querySelector('figure svg');
    if (step) window.seen.add(step.textContent);
    if (curve) window.seen.add(curve.outerHTML.length);
    return window.seen.size >= 4;
  });
  await until(() => document.querySelector('.badge.sealed'));
  assert.equal(await page.evaluate(() => window.mark), 'still');
  assert.equal(await ended, 0);
});

await shows('a study counts its runs and judges its claims', async () => {
  await open('/studies');
  assert.match(await text('main'), /2 of 2/);
  await page.click('a:text-is("study")');
  await page.waitForURL(/study\?name=/);
  assert.match(await text('main'), /holds/);
});

const asked = () => page.waitForFunction(() => window.viewer && viewer.data && document.getElementById('viewer').getAttribute('aria-busy') === 'false');

await shows('a glitch is shown as replay shows it', async () => {
  await open(`/run/${told.transformer}`);
  await page.click('#glitch-0');
  await asked();
  assert.match(await text('#verdict'), /: wrong\.$/);
  assert.equal(await text('#same'), 'The logits are those of the record, to the bit.');
  const rows = await page.locator('#answer tbody tr td:nth-child(2)').allInnerTexts();
  assert.deepEqual(rows.map((row) => Math.fround(Number(row))), told.logits.map(Math.fround));
  assert.equal(await page.locator('#strip .asked').count(), 1);
});

await shows('a token is edited by the keyboard, the answers follow, and the address leads back', async () => {
  const before = await text('#verdict');
  const written = Number(await page.getAttribute('#strip .written', 'data-pos'));
  await page.focus('#strip .cursor');
  await page.keyboard.press('Home');
  for (let pos = 0; pos <= written; pos++) await page.keyboard.press('ArrowRight');
  assert.equal(await page.evaluate(() => document.activeElement.dataset.pos), String(written + 1));
  await page.keyboard.press('ArrowUp');
  await until(() => viewer.data.edited);
  await asked();
  const after = await text('#verdict');
  assert.notEqual(after.match(/ is (\S+),/)[1], before.match(/ is (\S+),/)[1], 'what is right');
  assert.equal(await text('#same'), '');
  assert.equal(await page.evaluate(() => document.activeElement.dataset.pos), String(written + 1), 'the cursor stays');
  await page.reload();
  await asked();
  assert.equal(await text('#verdict'), after);
  await page.focus('#strip .cursor');
  await page.click('#reset');
  await until(() => !viewer.data.edited);
  await asked();
  assert.equal(await text('#verdict'), before);
});

await shows('the slider goes through training', async () => {
  const logits = () => page.evaluate(() => JSON.stringify(viewer.data.logits));
  const last = await logits();
  await page.focus('#step');
  await page.keyboard.press('ArrowLeft');
  await until(() => String(viewer.data.step) === viewer.step && viewer.data.step < viewer.data.steps.at(-1));
  await asked();
  assert.notEqual(await logits(), last);
  assert.match(await text('#step-words'), /^after 6 steps/);
  await page.keyboard.press('ArrowRight');
  await until(() => viewer.data.step === viewer.data.steps.at(-1));
  await asked();
  assert.equal(await logits(), last);
});

await shows('every head can be looked at, from every place', async () => {
  assert.equal(await page.locator('#heads tbody tr').count(), 4);
  await page.focus('#whole');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#maps[data-secs]');
  assert.equal(await page.locator('.small-map canvas').count(), 4);
  const inked = await page.evaluate(() => [...document.querySelectorAll('.small-map canvas')].every((canvas) => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    return data.some((value, idx) => idx % 4 === 0 && value < 100);
  }));
  assert.ok(inked);
  await page.hover('#large', { position: { x: 5, y: 300 } });
  assert.match(await text('#large-readout'), /^from place \d+ .* to place 0 .*: \S+$/);
});

await shows('512 places, 8 heads, 6 layers are drawn within a second', async () => {
  const secs = await page.evaluate(() => {
    const [n, heads] = [512, 48];
    const buffer = new ArrayBuffer(8 + 8 * heads + heads * n * (n + 1));
    const view = new DataView(buffer);
    view.setUint32(0, heads, true);
    view.setUint32(4, n, true);
    for (let idx = 0; idx < heads; idx++) {
      view.setUint32(8 + 8 * idx, Math.floor(idx / 8), true);
      view.setUint32(12 + 8 * idx, idx % 8, true);
    }
    new Uint16Array(buffer, 8 + 8 * heads).forEach((_, idx, shares) => { shares[idx] = (idx * 2_654_435_761) >>> 20; });
    viewer.data.tokens = new Array(n).fill(0);
    viewer.data.n_fed = n;
    viewer.asked = n - 1;
    viewer.patterns = new Patterns(buffer);
    const began = performance.now();
    // It reads a pixel back at its end, so all are drawn then.
    viewer.drawLooks();
    return (performance.now() - began) / 1000;
  });
  assert.equal(await page.locator('.small-map').count(), 48);
  assert.ok(secs < 1, `${secs} s`);
  console.log(`measured: 48 patterns of 512 places drawn in ${secs.toFixed(3)} s`);
});

await shows('a model without heads says so', async () => {
  await open(`/run/${told.lstm}/glitch/0`);
  await asked();
  assert.match(await text('#no-heads'), /^This model has no heads/);
});

await shows('the keyboard alone reaches everything, and shows where it is', async () => {
  await open('/');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
  const reached = new Set();
  for (let idx = 0; idx < 40; idx++) {
    await page.keyboard.press('Tab');
    const here = await page.evaluate(() => {
      const it = document.activeElement;
      // Behind the last element the browser itself has the focus.
      if (it === document.body) return null;
      return { name: it.id || it.name || it.textContent, outline: getComputedStyle(it).outlineStyle };
    });
    if (!here) continue;
    assert.notEqual(here.outline, 'none', here.name);
    reached.add(here.name);
  }
  for (const name of ['Studies and sweeps', 'where', 'sort', 'Ask', `run-${told.transformer}`, `pick-${told.transformer}`]) {
    assert.ok(reached.has(name), `${name} among ${[...reached]}`);
  }
  await page.focus('table.runs tbody tr:first-child a');
  await page.keyboard.press('ArrowDown');
  assert.equal(await page.evaluate(() => document.activeElement.closest('tr').rowIndex), 2);
});

await shows('nothing is wider than a phone, in the light and in the dark', async () => {
  await page.setViewportSize({ width: 390, height: 844 });
  const runs = `run=${told.transformer}&run=${told.lstm}`;
  const paths = ['/', '/?by=arm', `/run/${told.transformer}`, `/run/${told.transformer}/glitch/0`, `/compare?${runs}`, '/studies', '/study?name=study'];
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    for (const path of paths) {
      await open(path);
      if (path.includes('glitch')) { await asked(); await page.click('#whole'); }
      const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(over <= 0, `${path} is ${over} pixels too wide`);
    }
  }
});

await browser.close();
