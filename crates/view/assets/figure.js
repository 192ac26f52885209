// What a page adds to the figures in it. Each is complete without: this only shows the words of a mark at once, hides
// arms that are clicked on in the legend, and zooms. It asks for nothing, keeps nothing, and writes text as text.
"use strict";
(() => {
  const NS = "http://www.w3.org/2000/svg";
  const NEAR = 18; // Pixels within which a mark is meant.
  const CLOSEST = 1e-4; // The least part of an axis that a zoom shows.
  let box = null;

  function tip(words, x, y) {
    if (!box) {
      box = document.createElement("div");
      box.className = "figure-tip";
      box.setAttribute("role", "status");
      document.body.append(box);
    }
    box.hidden = !words;
    if (!words) return;
    box.textContent = words;
    const room = document.documentElement.clientWidth;
    const { width, height } = box.getBoundingClientRect();
    const left = Math.max(8, Math.min(x + 14, room - width - 8));
    const top = y - height - 12 < 4 ? y + 18 : y - height - 12;
    box.style.left = `${left + scrollX}px`;
    box.style.top = `${top + scrollY}px`;
  }

  function shape(name, attributes, words) {
    const made = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (words !== undefined) made.textContent = words;
    return made;
  }

  // What an axis says of itself: `plain 0 100`, `names 0.4 3.6`, or `log -5.3 0.1 -4 -5` with the lowest power of ten
  // and the place of zero.
  function axis(words) {
    const [kind, ...numbers] = words.split(" ");
    const [low, high, lowest, zero] = numbers.map(Number);
    return { kind, base: [low, high], now: [low, high], lowest, zero };
  }

  function grouped(number, decimals) {
    const words = number.toFixed(decimals);
    return decimals === 0 && words.length > 4 ? words.replace(/\B(?=(\d{3})+$)/g, "\u2009") : words;
  }

  function power(digit, exponent) {
    const plain = exponent >= -2 && exponent <= 3;
    return plain ? String(Number((digit * 10 ** exponent).toPrecision(3))) : `${digit}e${exponent}`;
  }

  function ticks({ kind, now: [low, high], lowest, zero }) {
    const found = [];
    if (kind === "plain") {
      const rough = (high - low) / 6;
      const ten = 10 ** Math.floor(Math.log10(rough));
      const step = ten * ([1, 2, 5].find((it) => it * ten >= rough) || 10);
      const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
      for (let n = Math.ceil(low / step - 1e-9); n * step <= high; n += 1) {
        found.push([n * step, grouped(n * step, decimals)]);
      }
      return found;
    }
    const from = Math.max(low, lowest);
    const every = Math.max(1, Math.ceil((high - from) / 9));
    const digits = high - from < 2.2 ? [1, 2, 5] : [1];
    for (let n = Math.floor(from); n <= high; n += every) {
      for (const digit of digits) {
        const at = n + Math.log10(digit);
        if (at >= from - 1e-9 && at <= high) found.push([at, power(digit, n)]);
      }
    }
    if (zero >= low && zero <= high) found.push([zero, "0"]);
    return found;
  }

  // Axes, lines and marks of a figure with a frame, for what is shown of it now.
  function framed(svg, area) {
    const [left, top, width, height] = area.dataset.area.split(" ").map(Number);
    const axes = { x: axis(area.dataset.x), y: axis(area.dataset.y) };
    const flows = area.querySelectorAll(".flow");
    const dots = area.querySelectorAll(".tt");
    const drawn = { x: svg.querySelector(".axis-x"), y: svg.querySelector(".axis-y") };
    const own = shape("g", { class: "zoomed", "font-size": 11, "aria-hidden": "true" });
    area.parentNode.before(own);
    const span = ([low, high]) => high - low;
    const place = {
      x: (at) => left + (width * (at - axes.x.now[0])) / span(axes.x.now),
      y: (at) => top + height * (1 - (at - axes.y.now[0]) / span(axes.y.now)),
    };

    function draw() {
      const scale = {};
      for (const name of ["x", "y"]) {
        const { base, now } = axes[name];
        const a = span(base) / span(now);
        const edge = name === "x" ? left : top;
        scale[name] = [a, place[name](base[name === "x" ? 0 : 1]) - a * edge];
      }
      const [[ax, bx], [ay, by]] = [scale.x, scale.y];
      for (const flow of flows) flow.setAttribute("transform", `matrix(${ax} 0 0 ${ay} ${bx} ${by})`);
      for (const dot of dots) {
        const [x, y] = dot.dataset.at.split(" ").map(Number);
        dot.setAttribute("transform", `translate(${ax * x + bx - x} ${ay * y + by - y})`);
      }
      own.replaceChildren();
      for (const name of ["x", "y"]) {
        const { base, now, kind } = axes[name];
        const changed = kind !== "names" && (base[0] !== now[0] || base[1] !== now[1]);
        drawn[name].style.display = changed ? "none" : "";
        if (changed) renew(name);
      }
    }

    function renew(name) {
      const [right, bottom] = [left + width, top + height];
      const line = (x1, y1, x2, y2, stroke) => own.append(shape("line", { x1, y1, x2, y2, stroke }));
      for (const [at, words] of ticks(axes[name])) {
        if (name === "x") {
          const x = place.x(at);
          line(x, top, x, bottom, "#ccc");
          line(x, bottom, x, bottom + 5, "#000");
          own.append(shape("text", { x, y: bottom + 16, "text-anchor": "middle" }, words));
        } else {
          const y = place.y(at);
          line(left, y, right, y, "#ccc");
          line(left - 5, y, left, y, "#000");
          own.append(shape("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, words));
        }
      }
      line(left, bottom, right, bottom, "#000");
      line(left, top, left, bottom, "#000");
    }

    function set(name, from, to) {
      const it = axes[name];
      if (it.kind === "names") return;
      const [low, high] = it.base;
      const wide = Math.min(Math.max(to - from, span(it.base) * CLOSEST), high - low);
      const begin = Math.min(Math.max(from, low), high - wide);
      it.now = wide >= high - low ? [low, high] : [begin, begin + wide];
    }

    return {
      inside: (x, y) => x >= left && x <= left + width && y >= top && y <= top + height,
      zoom(factor, x, y) {
        const share = { x: (x - left) / width, y: 1 - (y - top) / height };
        for (const name of ["x", "y"]) {
          const { now } = axes[name];
          const about = now[0] + span(now) * share[name];
          set(name, about - (about - now[0]) / factor, about + (now[1] - about) / factor);
        }
        draw();
      },
      pan(dx, dy) {
        for (const [name, share] of [["x", -dx / width], ["y", dy / height]]) {
          const by = share * span(axes[name].now);
          set(name, axes[name].now[0] + by, axes[name].now[1] + by);
        }
        draw();
      },
      reset() {
        for (const name of ["x", "y"]) axes[name].now = [...axes[name].base];
        draw();
      },
      middle: [left + width / 2, top + height / 2],
    };
  }

  // A figure without a frame is zoomed as a picture.
  function picture(svg) {
    const base = svg.getAttribute("viewBox").split(" ").map(Number);
    let [left, top, width, height] = base;
    const draw = () => svg.setAttribute("viewBox", `${left} ${top} ${width} ${height}`);
    const within = () => {
      left = Math.min(Math.max(left, base[0]), base[0] + base[2] - width);
      top = Math.min(Math.max(top, base[1]), base[1] + base[3] - height);
    };
    return {
      inside: () => true,
      zoom(factor, x, y) {
        const by = Math.min(Math.max(base[2] / (width / factor), 1), 40) * (width / base[2]);
        [left, top] = [x - (x - left) / by, y - (y - top) / by];
        [width, height] = [width / by, height / by];
        within();
        draw();
      },
      pan(dx, dy) {
        [left, top] = [left - dx, top - dy];
        within();
        draw();
      },
      reset() {
        [left, top, width, height] = base;
        draw();
      },
      middle: [base[0] + base[2] / 2, base[1] + base[3] / 2],
    };
  }

  function live(svg) {
    svg.classList.add("live");
    const marks = [...svg.querySelectorAll(".tt")];
    const words = new Map();
    for (const mark of marks) {
      const title = mark.querySelector("title");
      words.set(mark, title ? title.textContent : "");
      // Else the browser would say it a second time.
      if (title) title.remove();
    }
    const area = svg.querySelector(".area");
    const view = area ? framed(svg, area) : picture(svg);
    const isShown = (mark) => !mark.closest(".off");
    let on = null;
    let drag = null;

    const inFigure = (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      return [at.x, at.y];
    };
    const middleOf = (mark) => {
      const shown = mark.getBoundingClientRect();
      return [shown.left + shown.width / 2, shown.top + shown.height / 2];
    };
    const say = (mark, x, y) => {
      if (on) on.classList.remove("on");
      on = mark;
      if (on) on.classList.add("on");
      tip(on ? words.get(on) : "", x, y);
    };

    function meant(event) {
      const hit = event.target.closest(".tt");
      if (hit || !area) return hit;
      const [x, y] = inFigure(event);
      if (!view.inside(x, y)) return null;
      const ctm = area.getScreenCTM();
      let [best, least] = [null, NEAR];
      for (const mark of marks) {
        const moved = mark.transform.baseVal.numberOfItems ? mark.transform.baseVal.getItem(0).matrix : null;
        const [mx, my] = mark.dataset.at.split(" ").map(Number);
        const at = new DOMPoint(mx + (moved ? moved.e : 0), my + (moved ? moved.f : 0)).matrixTransform(ctm);
        const far = Math.hypot(at.x - event.clientX, at.y - event.clientY);
        if (far < least && isShown(mark)) [best, least] = [mark, far];
      }
      return best;
    }

    svg.tabIndex = 0;
    svg.addEventListener("pointermove", (event) => {
      if (drag && event.pointerId === drag.id) {
        const [x, y] = inFigure(event);
        if (!drag.moved && Math.hypot(x - drag.x, y - drag.y) < 3) return;
        if (!drag.moved) svg.setPointerCapture(event.pointerId);
        drag.moved = true;
        say(null);
        view.pan(x - drag.x, y - drag.y);
        [drag.x, drag.y] = inFigure(event);
        return;
      }
      say(meant(event), event.clientX, event.clientY);
    });
    svg.addEventListener("pointerdown", (event) => {
      say(meant(event), event.clientX, event.clientY);
      if (event.button !== 0 || event.pointerType === "touch" || event.target.closest(".legend")) return;
      const [x, y] = inFigure(event);
      drag = { id: event.pointerId, x, y, moved: false };
    });
    for (const end of ["pointerup", "pointercancel"]) svg.addEventListener(end, () => (drag = null));
    svg.addEventListener("pointerleave", () => say(null));
    svg.addEventListener("blur", () => say(null));
    svg.addEventListener("dblclick", (event) => {
      if (!event.target.closest(".legend")) view.reset();
    });
    svg.addEventListener(
      "wheel",
      (event) => {
        // A page is scrolled over its figures: one takes the wheel after it was clicked on, or with Ctrl.
        if (document.activeElement !== svg && !event.ctrlKey) return;
        event.preventDefault();
        say(null);
        view.zoom(Math.exp(-Math.sign(event.deltaY) * 0.2), ...inFigure(event));
      },
      { passive: false },
    );

    function step(by) {
      const shown = marks.filter(isShown);
      if (!shown.length) return;
      const next = shown[(shown.indexOf(on) + by + shown.length) % shown.length] || shown[0];
      say(next, ...middleOf(next));
    }
    const keys = {
      "+": () => view.zoom(1.4, ...view.middle),
      "=": () => view.zoom(1.4, ...view.middle),
      "-": () => view.zoom(1 / 1.4, ...view.middle),
      0: () => view.reset(),
      Escape: () => (say(null), view.reset()),
      ArrowLeft: () => view.pan(40, 0),
      ArrowRight: () => view.pan(-40, 0),
      ArrowUp: () => view.pan(0, 40),
      ArrowDown: () => view.pan(0, -40),
      n: () => step(1),
      p: () => step(-1),
    };
    svg.addEventListener("keydown", (event) => {
      const act = event.target === svg && !event.ctrlKey && !event.metaKey && !event.altKey && keys[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    });

    for (const entry of svg.querySelectorAll(".legend")) toggle(svg, entry);
  }

  function toggle(svg, entry) {
    const name = entry.dataset.arm;
    entry.setAttribute("role", "button");
    entry.setAttribute("tabindex", "0");
    entry.setAttribute("aria-pressed", "true");
    const act = () => {
      const off = entry.classList.toggle("off");
      entry.setAttribute("aria-pressed", String(!off));
      for (const arm of svg.querySelectorAll(".arm")) {
        if (arm.dataset.arm === name) arm.classList.toggle("off", off);
      }
    };
    entry.addEventListener("click", act);
    entry.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      act();
    });
  }

  // Every figure of the page, or of a part of it, that is not live yet.
  function figures(root = document) {
    for (const svg of root.querySelectorAll("svg.figure:not(.live)")) live(svg);
  }
  window.mnemoscope = Object.assign(window.mnemoscope || {}, { figures });
  figures();
})();
