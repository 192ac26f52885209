// The one script of the dashboard. It fetches again what changes on a page, remembers which runs are chosen, and draws
// the viewer of a glitch. Everything that comes from a record is set as text; nothing is loaded from elsewhere.
'use strict';

const $ = (id) => document.getElementById(id);

/** An element with properties and children; strings become text. */
function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** A rate to three digits, as the tables write it. */
function rate(value) {
  if (value === 0 || value === 1 || !Number.isFinite(value)) return String(value);
  return Math.abs(value) < 1e-3 ? value.toExponential(2) : value.toPrecision(3);
}

// --- What changes on a page -----------------------------------------------------------------------------------------

/** Milliseconds between two looks, at least; a slow answer makes them rarer. */
const BETWEEN_LOOKS = 1500;

/** What a reader has opened, ticked and scrolled within the live part survives its exchange. */
function exchange(live, html) {
  const focused = document.activeElement && live.contains(document.activeElement) ? document.activeElement.id : '';
  const opened = [...live.querySelectorAll('details')].map((it) => it.open);
  const scrolled = [...live.querySelectorAll('.scroll, pre')].map((it) => it.scrollLeft);
  const hidden = [...live.querySelectorAll('.legend.off')].map((it) => [it.closest('figure').id, it.dataset.arm]);
  live.innerHTML = html;
  window.mnemoscope.figures(live);
  for (const [figure, arm] of hidden) {
    const entries = [...($(figure) || live).querySelectorAll('.legend')];
    entries.find((it) => it.dataset.arm === arm)?.dispatchEvent(new Event('click'));
  }
  live.querySelectorAll('details').forEach((it, idx) => { it.open = opened[idx] || false; });
  live.querySelectorAll('.scroll, pre').forEach((it, idx) => { it.scrollLeft = scrolled[idx] || 0; });
  if (focused && $(focused)) $(focused).focus({ preventScroll: true });
  showChosen();
}

async function look(live) {
  const began = performance.now();
  try {
    if (document.activeElement?.closest('svg.figure')) {
      $('state').textContent = 'waits while you are in a figure';
    } else if (!document.hidden) {
      const address = live.dataset.source;
      const mark = address.includes('?') ? '&' : '?';
      const answer = await fetch(`${address}${mark}since=${encodeURIComponent(live.dataset.revision)}`);
      if (answer.status === 200) {
        const html = await answer.text();
        live.dataset.revision = answer.headers.get('mnemoscope-revision') || '';
        exchange(live, html);
      }
      $('state').textContent = answer.ok ? '' : 'could not be refreshed';
    }
  } catch {
    $('state').textContent = 'not reached; trying again';
  }
  setTimeout(look, Math.max(BETWEEN_LOOKS, 10 * (performance.now() - began)), live);
}

// --- Choosing runs --------------------------------------------------------------------------------------------------

const chosen = new Set(JSON.parse(sessionStorage.getItem('chosen') || '[]'));

function showChosen() {
  for (const box of document.querySelectorAll('input[name=run]')) box.checked = chosen.has(box.value);
  if (!$('n-chosen')) return;
  const n = chosen.size;
  $('n-chosen').textContent = n === 0 ? 'tick runs to compare them' : `${n} chosen`;
  let forget = $('forget');
  if (n > 0 && !forget) {
    forget = element('button', { id: 'forget', type: 'button', className: 'plain' }, 'Choose none');
    $('n-chosen').after(' ', forget);
  } else if (n === 0 && forget) forget.remove();
}

function keepChosen() {
  sessionStorage.setItem('chosen', JSON.stringify([...chosen]));
  showChosen();
}

document.addEventListener('change', (event) => {
  if (event.target.name !== 'run') return;
  if (event.target.checked) chosen.add(event.target.value);
  else chosen.delete(event.target.value);
  keepChosen();
});

document.addEventListener('click', (event) => {
  if (event.target.id !== 'forget') return;
  chosen.clear();
  keepChosen();
});

// The chosen ones of other pages come along.
document.addEventListener('submit', (event) => {
  if (event.target.id !== 'chosen') return;
  event.preventDefault();
  const runs = [...chosen].map((run) => `run=${encodeURIComponent(run)}`);
  location.href = `/compare?${runs.join('&')}`;
});

// Up and down go through the links of a table.
document.addEventListener('keydown', (event) => {
  const row = event.target.closest && event.target.closest('table.runs tbody tr');
  if (!row || !['ArrowDown', 'ArrowUp'].includes(event.key)) return;
  const next = event.key === 'ArrowDown' ? row.nextElementSibling : row.previousElementSibling;
  const same = event.target.tagName === 'INPUT' ? 'input' : 'a';
  if (!next || !next.querySelector(same)) return;
  event.preventDefault();
  next.querySelector(same).focus();
});

/** Names of fields to choose from, fetched when somebody begins to type one. */
async function offerFields() {
  const list = $('fields');
  if (!list || list.children.length) return;
  const answer = await fetch('/api/fields');
  if (!answer.ok) return;
  for (const field of (await answer.json()).fields.slice(0, 2000)) list.append(element('option', { value: field }));
}

// --- The viewer of a glitch -----------------------------------------------------------------------------------------

/** Every pattern of one answer, as it was packed: see `attention` in page/glitch.rs. */
class Patterns {
  constructor(buffer) {
    const view = new DataView(buffer);
    const nMaps = view.getUint32(0, true);
    this.n = view.getUint32(4, true);
    this.heads = [];
    for (let idx = 0; idx < nMaps; idx++) {
      this.heads.push({ layer: view.getUint32(8 + 8 * idx, true), head: view.getUint32(12 + 8 * idx, true) });
    }
    this.shares = new Uint16Array(buffer, 8 + 8 * nMaps);
  }

  /** The shares of one head from one place: one for each place up to it. */
  row(map, query) {
    const begin = map * this.n * (this.n + 1) / 2 + query * (query + 1) / 2;
    return this.shares.subarray(begin, begin + query + 1);
  }
}

/** Small shares are seen and large ones told apart if ink follows the root. */
const ink = (share) => Math.round(255 * (1 - Math.sqrt(share / 65535)));

class Viewer {
  constructor(place) {
    this.place = place;
    this.source = place.dataset.source;
    const query = new URLSearchParams(location.search);
    this.step = query.get('step');
    this.edits = new Map();
    for (const edit of (query.get('edit') || '').split(',').filter(Boolean)) {
      const [pos, token] = edit.split(':').map(Number);
      this.edits.set(pos, token);
    }
    this.asked = query.has('at') ? Number(query.get('at')) : null;
    this.cursor = this.asked;
    this.head = '';
    this.whole = false;
    this.build();
    this.ask();
  }

  build() {
    this.slider = element('input', { type: 'range', id: 'step', min: 0, max: 0, step: 1 });
    this.stepWords = element('output', { id: 'step-words', htmlFor: 'step' });
    this.reset = element('button', { type: 'button', id: 'reset' }, 'Undo edits');
    this.before = element('button', { type: 'button', id: 'error-before' }, 'Error before');
    this.after = element('button', { type: 'button', id: 'error-after' }, 'Next error');
    this.token = element('select', { id: 'token', 'aria-label': 'token at the cursor' });
    this.cursorWords = element('span', { id: 'cursor-words' });
    this.askHere = element('button', { type: 'button', id: 'ask-here' }, 'Ask here');
    this.shade = element('select', { id: 'shade' });
    this.strip = element('div', { id: 'strip', className: 'strip', role: 'group', 'aria-label': 'the sequence, token by token' });
    this.answer = element('section', { id: 'answer', className: 'answer' });
    this.says = element('p', { id: 'says', className: 'says', role: 'status' });
    this.problem = element('p', { id: 'problem', className: 'warning', hidden: true, role: 'alert' });
    this.looks = element('section', { id: 'looks' });
    this.place.append(
      this.problem,
      element('div', { className: 'controls' },
        element('label', { htmlFor: 'step' }, 'Checkpoint '), this.slider, this.stepWords),
      element('div', { className: 'controls' },
        this.before, this.after, this.reset,
        element('label', {}, 'Shade by ', this.shade)),
      this.strip,
      element('div', { className: 'controls' }, this.cursorWords, this.token, this.askHere),
      element('p', { className: 'note keys' },
        'Arrow keys: left and right move, up and down change the token; a letter or digit sets it, Backspace undoes it, ' +
        'Enter asks there. Beneath each scored place stands the answer, ', element('b', { className: 'wrong' }, 'bold with a stroke'),
        ' if it is wrong.'),
      this.says, this.answer, this.looks);
    this.listen();
  }

  listen() {
    this.slider.addEventListener('input', () => {
      this.step = String(this.data.steps[Number(this.slider.value)]);
      this.sayStep(this.step);
      clearTimeout(this.soon);
      this.soon = setTimeout(() => this.ask(), 60);
    });
    this.reset.addEventListener('click', () => { this.edits.clear(); this.ask(); });
    this.before.addEventListener('click', () => this.goToError(-1));
    this.after.addEventListener('click', () => this.goToError(1));
    this.askHere.addEventListener('click', () => this.askAt(this.cursor));
    this.token.addEventListener('change', () => this.edit(this.cursor, Number(this.token.value)));
    this.shade.addEventListener('change', () => { this.head = this.shade.value; this.drawStrip(); });
    this.strip.addEventListener('click', (event) => {
      const token = event.target.closest('button');
      if (token) this.moveTo(Number(token.dataset.pos));
    });
    this.strip.addEventListener('dblclick', (event) => {
      const token = event.target.closest('button');
      if (token) this.askAt(Number(token.dataset.pos));
    });
    this.strip.addEventListener('keydown', (event) => this.key(event));
  }

  key(event) {
    if (!this.data || event.ctrlKey || event.metaKey || event.altKey) return;
    const { tokens, vocab } = this.data;
    const to = { ArrowLeft: this.cursor - 1, ArrowRight: this.cursor + 1, Home: 0, End: tokens.length - 1 }[event.key];
    if (to !== undefined) this.moveTo(Math.min(Math.max(to, 0), tokens.length - 1), true);
    else if (event.key === 'ArrowUp') this.turn(1);
    else if (event.key === 'ArrowDown') this.turn(-1);
    else if (event.key === 'Enter') this.askAt(this.cursor);
    else if (event.key === 'Backspace' || event.key === 'Delete') this.edit(this.cursor, null);
    else if (event.key.length === 1 && event.key !== ' ' && vocab.includes(event.key)) this.edit(this.cursor, vocab.indexOf(event.key));
    else return;
    event.preventDefault();
  }

  /** The next token of the same kind stands at the cursor. */
  turn(by) {
    const { tokens, kinds } = this.data;
    const now = tokens[this.cursor];
    const alike = kinds.map((kind, token) => (kind === kinds[now] ? token : -1)).filter((token) => token >= 0);
    this.edit(this.cursor, alike[(alike.indexOf(now) + by + alike.length) % alike.length]);
  }

  edit(pos, token) {
    if (token === null || token === this.original[pos]) this.edits.delete(pos);
    else this.edits.set(pos, token);
    // Shown at once; the answer follows.
    this.data.tokens[pos] = this.edits.has(pos) ? this.edits.get(pos) : this.original[pos];
    this.drawStrip();
    this.moveTo(pos, this.strip.contains(document.activeElement));
    this.ask();
  }

  query() {
    const query = new URLSearchParams();
    if (this.step) query.set('step', this.step);
    if (this.edits.size) query.set('edit', [...this.edits].map(([pos, token]) => `${pos}:${token}`).join(','));
    return query;
  }

  async ask() {
    if (this.waits) this.waits.abort();
    const waits = this.waits = new AbortController();
    const query = this.query();
    this.place.setAttribute('aria-busy', 'true');
    try {
      const answer = await fetch(`${this.source}?${query}`, { signal: waits.signal });
      const data = await answer.json();
      if (!answer.ok) throw new Error(data.error);
      let patterns = null;
      if (data.maps.length) {
        const packed = await fetch(`${this.source}/attention?${query}`, { signal: waits.signal });
        if (!packed.ok) throw new Error((await packed.json()).error);
        patterns = new Patterns(await packed.arrayBuffer());
      }
      this.problem.hidden = true;
      this.show(data, patterns);
    } catch (why) {
      if (why.name === 'AbortError') return;
      this.problem.textContent = why.message;
      this.problem.hidden = false;
    }
    if (this.waits === waits) this.place.setAttribute('aria-busy', 'false');
  }

  show(data, patterns) {
    const was = this.data && this.placeAt(this.asked);
    const first = !this.data;
    this.data = data;
    this.patterns = patterns;
    if (first) {
      this.original = data.tokens.slice();
      // Of an edited address the tokens before the edits are not known here: they are asked for.
      if (this.edits.size) fetch(this.source).then((it) => it.json()).then((it) => { this.original = it.tokens; this.drawStrip(); });
    }
    if (this.asked === null || this.asked >= data.n_fed) this.asked = data.query_pos;
    if (this.cursor === null) this.cursor = this.asked;
    const steps = data.steps.map(String);
    this.slider.max = steps.length - 1;
    this.slider.value = steps.indexOf(String(data.step));
    this.slider.disabled = steps.length < 2;
    this.sayStep(data.step);
    this.offerHeads();
    this.drawStrip();
    this.moveTo(this.cursor, this.strip.contains(document.activeElement));
    this.drawAnswer();
    this.drawLooks();
    const is = this.placeAt(this.asked);
    const word = (place) => (place ? data.vocab[place.predicted] : '');
    this.says.textContent = was && is && was.predicted !== is.predicted
      ? `The answer at place ${this.asked} changed from ${word(was)} to ${word(is)}.` : '';
    this.remember();
  }

  /** The address leads back to what is seen. */
  remember() {
    const query = this.query();
    if (this.asked !== this.data.query_pos) query.set('at', this.asked);
    const text = query.toString();
    history.replaceState(null, '', location.pathname + (text ? `?${text}` : ''));
  }

  placeAt(pos) { return this.data.places.find((place) => place.pos === pos); }

  sayStep(step) {
    const { steps } = this.data;
    const words = steps.length < 2 ? '; only this checkpoint is kept, `run --keep-checkpoints N` keeps more' : ` (${steps.length} are kept)`;
    this.stepWords.textContent = `after ${step} steps${words}`;
    this.slider.setAttribute('aria-valuetext', `after ${step} steps`);
  }

  offerHeads() {
    const heads = this.patterns ? this.patterns.heads : [];
    if (this.shade.children.length === heads.length + 2) return;
    this.shade.replaceChildren(element('option', { value: '' }, heads.length ? 'the most of any head' : 'nothing: no heads'),
      element('option', { value: 'none' }, 'nothing'),
      ...heads.map((it, idx) => element('option', { value: String(idx) }, `layer ${it.layer}, head ${it.head}`)));
  }

  /** How dark each token is: its share of attention from the asked place. */
  shades() {
    const { n_fed: n } = this.data;
    const shades = new Array(n).fill(0);
    if (!this.patterns || this.head === 'none') return shades;
    const maps = this.head === '' ? this.patterns.heads.map((_, idx) => idx) : [Number(this.head)];
    for (const map of maps) this.patterns.row(map, this.asked).forEach((share, pos) => { shades[pos] = Math.max(shades[pos], share); });
    return shades;
  }

  drawStrip() {
    const { tokens, vocab, kinds, places, n_fed: n } = this.data;
    const asked = this.placeAt(this.asked);
    const answers = new Map(places.map((place) => [place.pos, place]));
    const shades = this.shades();
    if (this.strip.children.length !== tokens.length) {
      this.strip.replaceChildren(...tokens.map((_, pos) => element('button', { type: 'button', className: 'token', tabIndex: -1, 'data-pos': pos },
        element('span', { className: 'word' }), element('span', { className: 'said' }))));
    }
    // Instructions begin a pair where the language has two kinds of tokens.
    const pairs = new Set(kinds).size > 1;
    tokens.forEach((token, pos) => {
      const button = this.strip.children[pos];
      const place = answers.get(pos);
      const marks = [];
      if (pos === this.asked) marks.push('asked');
      if (asked && asked.write_pos === pos && pos !== this.asked) marks.push('written');
      if (this.edits.has(pos)) marks.push('edited');
      if (pos === this.cursor) marks.push('cursor');
      if (place) marks.push(place.right ? 'right' : 'wrong');
      if (pos >= n) marks.push('unfed');
      if (pairs && kinds[token] === 1) marks.push('second');
      button.className = ['token', ...marks].join(' ');
      button.children[0].textContent = vocab[token] ?? String(token);
      button.children[1].textContent = place ? vocab[place.predicted] : '';
      const grey = ink(shades[pos] || 0);
      button.style.backgroundColor = pos < n && shades[pos] ? `rgb(${grey},${grey},${grey})` : '';
      button.style.color = pos < n && shades[pos] ? (grey < 140 ? '#fff' : '#000') : '';
      const words = [`place ${pos}, ${vocab[token]}`];
      if (place) words.push(`answered ${vocab[place.predicted]}, ${place.right ? 'right' : `wrong, right is ${vocab[place.expected]}`}`);
      if (marks.includes('asked')) words.push('asked here');
      if (marks.includes('written')) words.push('the last write');
      if (marks.includes('edited')) words.push('edited');
      button.setAttribute('aria-label', words.join('; '));
      button.title = shades[pos] ? `${words.join('; ')}; share ${rate(shades[pos] / 65535)}` : words.join('; ');
    });
    this.reset.disabled = !this.edits.size;
  }

  moveTo(pos, focus = false) {
    this.strip.querySelectorAll('[tabindex="0"]').forEach((it) => { it.tabIndex = -1; it.classList.remove('cursor'); });
    this.cursor = pos;
    const button = this.strip.children[pos];
    button.tabIndex = 0;
    button.classList.add('cursor');
    if (focus) button.focus();
    const { tokens, vocab, n_fed: n } = this.data;
    this.cursorWords.textContent = `Place ${pos} holds `;
    if (this.token.children.length !== vocab.length) {
      this.token.replaceChildren(...vocab.map((word, token) => element('option', { value: String(token) }, word)));
    }
    this.token.value = String(tokens[pos]);
    this.askHere.disabled = pos >= n || pos === this.asked;
  }

  askAt(pos) {
    if (pos >= this.data.n_fed) return;
    this.asked = pos;
    this.drawStrip();
    this.moveTo(pos, this.strip.contains(document.activeElement));
    this.drawAnswer();
    this.drawLooks();
    this.remember();
  }

  goToError(by) {
    const errors = this.data.places.filter((place) => !place.right).map((place) => place.pos);
    const next = by > 0 ? errors.find((pos) => pos > this.asked) : errors.filter((pos) => pos < this.asked).pop();
    this.says.textContent = next === undefined ? `There is no error ${by > 0 ? 'behind' : 'before'} place ${this.asked}.` : '';
    if (next !== undefined) this.askAt(next);
  }

  drawAnswer() {
    const { data, asked } = this;
    const { vocab, tokens } = data;
    const place = this.placeAt(asked);
    const row = data.logits[asked];
    const highest = Math.max(...row);
    const weights = row.map((logit) => Math.exp(Math.fround(logit - highest)));
    const sum = weights.reduce((a, b) => a + b, 0);
    const predicted = row.indexOf(highest);
    let order = row.map((_, token) => token);
    if (order.length > 8) {
      order.sort((a, b) => row[b] - row[a]);
      const first = order.slice(0, 8);
      if (place && !first.includes(place.expected)) first[7] = place.expected;
      order = first;
    }
    const lines = order.map((token) => {
      const notes = [place && token === place.expected ? 'right' : '', token === predicted ? 'the answer' : ''].filter(Boolean);
      const bar = element('meter', { min: 0, max: 1, value: weights[token] / sum, 'aria-hidden': 'true' });
      return element('tr', { className: notes.includes('the answer') ? 'said' : '' },
        element('td', {}, element('code', {}, vocab[token])),
        element('td', { className: 'number' }, String(row[token])),
        element('td', { className: 'number' }, rate(weights[token] / sum)),
        element('td', {}, notes.join(', and ')), element('td', {}, bar));
    });
    const words = place
      ? place.write_pos === asked
        ? `Right at place ${asked} (${vocab[tokens[asked]]}) is ${vocab[place.expected]}; nothing before says so. `
        : `Right at place ${asked} (${vocab[tokens[asked]]}) is ${vocab[place.expected]}, written at place ${place.write_pos}, ${asked - place.write_pos} tokens back. `
      : `Place ${asked} (${vocab[tokens[asked]]}) is not scored: no answer there is right or wrong. `;
    const verdict = place ? element('b', { className: place.right ? 'right' : 'wrong' }, `The model answers ${vocab[predicted]}: ${place.right ? 'right' : 'wrong'}.`)
      : element('b', {}, `The model answers ${vocab[predicted]}.`);
    let same = '';
    if (data.same_bits !== null && asked === data.query_pos) {
      same = data.same_bits ? 'The logits are those of the record, to the bit.' : 'The logits DIFFER from the record.';
    }
    this.answer.replaceChildren(element('h2', {}, 'What it answers'), element('p', { id: 'verdict' }, words, verdict),
      element('div', { className: 'scroll' }, element('table', {},
        element('thead', {}, element('tr', {}, ...['token', 'logit', 'probability', '', ''].map((it, idx) =>
          element('th', { className: idx === 1 || idx === 2 ? 'number' : '' }, it)))),
        element('tbody', {}, ...lines))),
      element('p', { className: 'note', id: 'same' }, same));
  }

  drawLooks() {
    if (!this.patterns) {
      this.looks.replaceChildren(element('h2', {}, 'Where it looks'),
        element('p', { className: 'empty', id: 'no-heads' }, 'This model has no heads: it keeps what it needs in its state, and there is no attention to show.'));
      return;
    }
    const { heads, n } = this.patterns;
    const place = this.placeAt(this.asked);
    const write = place && place.write_pos !== this.asked ? place.write_pos : null;
    const { tokens, vocab } = this.data;
    const lines = heads.map((it, map) => {
      const row = this.patterns.row(map, this.asked);
      let most = 0;
      row.forEach((share, pos) => { if (share > row[most]) most = pos; });
      const on = (pos) => (pos === null || pos >= row.length ? '-' : rate(row[pos] / 65535));
      return element('tr', {},
        element('td', {}, `${it.layer}.${it.head}`),
        element('td', { className: 'number' }, on(write)),
        element('td', { className: 'number' }, on(write === null ? null : write + 1)),
        element('td', { className: 'number' }, on(this.asked)),
        element('td', { className: 'number' }, rate(row[most] / 65535)),
        element('td', {}, `place ${most}, ${vocab[tokens[most]]}`));
    });
    const shown = element('output', { className: 'note readout', id: 'readout' }, 'Point at the picture to read a share.');
    const across = element('canvas', { id: 'across', className: 'map', width: this.asked + 1, height: heads.length, role: 'img',
      'aria-label': `shares of attention of ${heads.length} heads from place ${this.asked}; the table has the numbers` });
    drawRows(across, heads.length, this.asked + 1, (map, key) => this.patterns.row(map, this.asked)[key]);
    across.style.height = `${Math.min(Math.max(heads.length * 12, 48), 480)}px`;
    across.addEventListener('mousemove', (event) => {
      const [key, map] = cellAt(across, event);
      const it = heads[map];
      shown.textContent = `layer ${it.layer}, head ${it.head}, from place ${this.asked} to place ${key} (${vocab[tokens[key]]}): ${rate(this.patterns.row(map, this.asked)[key] / 65535)}`;
    });
    const button = element('button', { type: 'button', id: 'whole', 'aria-expanded': String(this.whole) },
      this.whole ? 'Hide the whole patterns' : `Show the whole pattern of ${heads.length === 1 ? 'the head' : `all ${heads.length} heads`}`);
    this.maps = element('div', { id: 'maps', className: 'maps' });
    button.addEventListener('click', () => { this.whole = !this.whole; this.drawLooks(); $('whole').focus(); });
    this.looks.replaceChildren(element('h2', {}, 'Where it looks'),
      element('p', { className: 'note' }, `From place ${this.asked}${write === null ? '' : `; the last write is at place ${write}, its symbol behind it`}. A row a head, a column a place from 0 to ${this.asked}; the darker, the larger the share.`),
      across, shown,
      element('div', { className: 'scroll' }, element('table', { id: 'heads' },
        element('thead', {}, element('tr', {}, ...['head', 'on the write', 'on the place after it', 'on itself', 'the most', 'where'].map((it, idx) =>
          element('th', { className: idx > 0 && idx < 5 ? 'number' : '' }, it)))),
        element('tbody', {}, ...lines))),
      element('p', {}, button), this.maps);
    if (this.whole) this.drawWhole(n);
  }

  /** The head that puts the most on one place from where the model is asked. */
  boldest() {
    const most = this.patterns.heads.map((_, map) => Math.max(...this.patterns.row(map, this.asked)));
    return most.indexOf(Math.max(...most));
  }

  /** The row that asks and the column of the last write, tinted. */
  markLarge(canvas) {
    const context = canvas.getContext('2d');
    const place = this.placeAt(this.asked);
    context.fillStyle = 'rgba(0, 114, 178, 0.3)';
    context.fillRect(0, this.asked, this.asked + 1, 1);
    if (!place || place.write_pos === this.asked) return;
    context.fillStyle = 'rgba(0, 158, 115, 0.3)';
    context.fillRect(place.write_pos, place.write_pos, 1, canvas.height - place.write_pos);
  }

  /** Every head's whole pattern, small; one of them large. */
  drawWhole(n) {
    const began = performance.now();
    const { heads } = this.patterns;
    const { tokens, vocab } = this.data;
    const small = heads.map((it, map) => {
      const canvas = element('canvas', { className: 'map', width: n, height: n });
      drawPattern(canvas, this.patterns, map);
      const button = element('button', { type: 'button', className: 'small-map', 'aria-label': `enlarge layer ${it.layer}, head ${it.head}` },
        canvas, element('span', {}, `layer ${it.layer}, head ${it.head}`));
      button.addEventListener('click', () => enlarge(map));
      return button;
    });
    const large = element('canvas', { id: 'large', className: 'map large', width: n, height: n, role: 'img' });
    const name = element('h3', { id: 'large-name' });
    const readout = element('output', { className: 'note readout', id: 'large-readout' }, 'Blue is the row that asks, green the column of the last write. Point at the picture to read a share; a click asks at that row.');
    let shown = 0;
    const enlarge = (map) => {
      shown = map;
      name.textContent = `Layer ${heads[map].layer}, head ${heads[map].head}: a row a place that looks, a column a place it looks at`;
      large.setAttribute('aria-label', name.textContent);
      drawPattern(large, this.patterns, map);
      this.markLarge(large);
      small.forEach((it, idx) => it.setAttribute('aria-pressed', String(idx === map)));
    };
    large.addEventListener('mousemove', (event) => {
      const [key, query] = cellAt(large, event);
      readout.textContent = key > query ? `place ${query} cannot look ahead to place ${key}`
        : `from place ${query} (${vocab[tokens[query]]}) to place ${key} (${vocab[tokens[key]]}): ${rate(this.patterns.row(shown, query)[key] / 65535)}`;
    });
    large.addEventListener('click', (event) => this.askAt(cellAt(large, event)[1]));
    this.maps.append(element('div', { className: 'small-maps' }, ...small), name, large, readout);
    enlarge(this.head === '' || this.head === 'none' ? this.boldest() : Number(this.head));
    // Reading a pixel back waits until all are drawn.
    large.getContext('2d').getImageData(0, 0, 1, 1);
    const secs = (performance.now() - began) / 1000;
    this.maps.dataset.secs = secs.toFixed(3);
    this.maps.append(element('p', { className: 'note' }, `${heads.length} patterns of ${n} places, drawn in ${secs.toFixed(2)} s.`));
  }
}

/** A pixel a share. */
function drawRows(canvas, nRows, nColumns, share) {
  const context = canvas.getContext('2d');
  const image = context.createImageData(nColumns, nRows);
  for (let row = 0; row < nRows; row++) {
    for (let column = 0; column < nColumns; column++) {
      const grey = ink(share(row, column));
      image.data.set([grey, grey, grey, 255], 4 * (row * nColumns + column));
    }
  }
  context.putImageData(image, 0, 0);
}

/** The grey of each share, looked up: a picture has twelve million. */
let greys = null;

function drawPattern(canvas, patterns, map) {
  if (!greys) {
    greys = new Uint32Array(65536);
    for (let share = 0; share < 65536; share++) {
      const grey = ink(share);
      greys[share] = (255 << 24 | grey << 16 | grey << 8 | grey) >>> 0;
    }
  }
  const n = patterns.n;
  const context = canvas.getContext('2d');
  const image = context.createImageData(n, n);
  const pixels = new Uint32Array(image.data.buffer).fill(0xfff2f2f2);
  for (let query = 0; query < n; query++) {
    const row = patterns.row(map, query);
    for (let key = 0; key <= query; key++) pixels[query * n + key] = greys[row[key]];
  }
  context.putImageData(image, 0, 0);
}

/** The column and row of a canvas that the mouse points at. */
function cellAt(canvas, event) {
  const box = canvas.getBoundingClientRect();
  const at = (offset, size, n) => Math.min(Math.max(Math.floor(offset / size * n), 0), n - 1);
  return [at(event.clientX - box.left, box.width, canvas.width), at(event.clientY - box.top, box.height, canvas.height)];
}

// --- Begin ----------------------------------------------------------------------------------------------------------

showChosen();
document.querySelectorAll('input[list=fields]').forEach((it) => it.addEventListener('focus', offerFields, { once: true }));
if ($('live') && $('live').dataset.source) setTimeout(look, BETWEEN_LOOKS, $('live'));
if ($('viewer')) window.viewer = new Viewer($('viewer'));
